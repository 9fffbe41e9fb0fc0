"""Damage planted in every part of every kind of archive: what comes out is all of it, or one error that names it."""

import contextlib
import gzip
import io
import os
import random
import socket
import struct
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from mlops.images.archives.archives import open_entries
from mlops.project.errors import UserError

FILES = {f"{'é' * (number % 2) or 'b'}/{number}.png": bytes([number]) * 90 * number for number in range(1, 7)}
FILES |= {"no": b"hidden by one bit: no/, .o", "n.png": b"n" * 600, "c/" + "long" * 30 + "/1.png": b"1" * 512}


def zip_of(files: dict[str, bytes], method: int = zipfile.ZIP_STORED) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", method) as archive:
        for name, data in files.items():
            archive.writestr(zipfile.ZipInfo(name), data, method)
    return content.getvalue()


def tar_of(files: dict[str, bytes], form: int = tarfile.PAX_FORMAT, packing: str = "") -> bytes:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode=f"w:{packing}", format=form) as tar:  # type: ignore[call-overload]
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return content.getvalue()


ZIPS = {name: zip_of(FILES, getattr(zipfile, f"ZIP_{name}")) for name in ("STORED", "DEFLATED", "BZIP2", "LZMA")}
TARS = {name: tar_of(FILES, getattr(tarfile, f"{name}_FORMAT")) for name in ("GNU", "PAX")}
PACKED = {name: tar_of(FILES, packing=name) for name in ("gz", "bz2", "xz")}
ARCHIVES = ZIPS | TARS | PACKED
BLOCK = tarfile.BLOCKSIZE


@pytest.fixture
def outcome(tmp_path: Path) -> Callable[[bytes], dict[str, bytes] | None]:
    """Return a function that reads an archive of given bytes: its files, or None for an error that names it."""
    path = tmp_path / "archive"

    def read(content: bytes) -> dict[str, bytes] | None:
        path.write_bytes(content)
        with contextlib.suppress(UserError):
            return content_of(path)
        with pytest.raises(UserError, match=rf"^{path}[^\n]*; [^\n]*$"):
            content_of(path)
        return None

    return read


Outcome = Callable[[bytes], dict[str, bytes] | None]


def content_of(path: Path) -> dict[str, bytes]:
    found = {}
    with open_entries(path, scratch=path.parent) as entries:
        for entry in entries:
            with entry.open() as file:
                found[entry.name] = file.read()
    return found


def flipped(content: bytes, place: int, bit: int) -> bytes:
    return content[:place] + bytes([content[place] ^ 1 << bit]) + content[place + 1 :]


def zeroed(content: bytes, start: int, stop: int) -> bytes:
    return content[:start] + bytes(stop - start) + content[stop:]


@pytest.mark.parametrize("name", ARCHIVES)
def test_a_whole_archive_is_read_and_a_cut_one_is_an_error_wherever_it_was_cut(name: str, outcome: Outcome) -> None:
    whole = ARCHIVES[name]
    assert outcome(whole) == FILES
    needed = members(whole)[-1] + 2 * BLOCK if name in TARS else len(whole)
    for length in {*range(0, needed, 61), *range(0, needed, BLOCK)} - {needed}:
        assert outcome(whole[:length]) is None, length


def members(tar: bytes) -> list[int]:
    """Return where the headers of a tar are, with those that hold long names, and where its end is."""
    with tarfile.open(fileobj=io.BytesIO(tar)) as archive:
        starts = [start for info in archive for start in {info.offset, info.offset_data - BLOCK}]
        return [*sorted(starts), archive.offset]


@pytest.mark.parametrize("name", TARS)
def test_every_header_of_a_tar_is_needed(name: str, outcome: Outcome) -> None:
    whole = TARS[name]
    *headers, end = members(whole)
    assert len(headers) > len(FILES)
    for start in headers:
        assert outcome(zeroed(whole, start, start + BLOCK)) is None
        assert outcome(whole[:start] + whole[start + BLOCK :]) is None
        for place in range(start, start + BLOCK, 9):  # all that a header holds
            assert outcome(flipped(whole, place, 3)) is None
    assert outcome(whole[: end + 2 * BLOCK]) == FILES
    assert outcome(whole + bytes(9 * BLOCK)) == FILES
    for tail in (flipped(whole, end, 0), flipped(whole, len(whole) - 1, 7), whole + b"x", whole + whole):
        assert outcome(tail) is None


@pytest.mark.parametrize("name", ZIPS)
def test_no_bit_of_a_zip_loses_an_image(name: str, outcome: Outcome) -> None:
    whole = ZIPS[name]
    directory = whole.index(b"PK\1\2")
    for place in (*range(0, directory, 7), *range(directory, len(whole))):
        found = outcome(flipped(whole, place, place % 8))
        assert found in (FILES, None), place
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(zipfile, "crc32", lambda *_: 0)
        assert outcome(whole) is None  # so checksums are compared


@pytest.mark.parametrize("name", [*ZIPS, *PACKED])
def test_nothing_may_stand_before_or_behind_an_archive(name: str, outcome: Outcome) -> None:
    whole = ARCHIVES[name]
    for content in (whole + whole, whole + b"x", b"PK" + whole, whole[:2] + whole):
        assert outcome(content) is None


@pytest.mark.parametrize("name", PACKED)
def test_no_bit_of_a_packed_tar_loses_an_image(name: str, outcome: Outcome) -> None:
    for place in range(len(PACKED[name])):
        assert outcome(flipped(PACKED[name], place, place % 8)) in (FILES, None), place


def mutants(whole: bytes, seed: int, count: int) -> Iterator[bytes]:
    rng = random.Random(seed)
    for _ in range(count):
        content = bytearray(whole)
        for _ in range(rng.choice((1, 1, 2, 5))):
            start, length = rng.randrange(len(content)), rng.choice((1, 2, 4, 8, 512))
            match rng.randrange(5):
                case 0:
                    content[start] ^= 1 << rng.randrange(8)
                case 1:
                    content[start : start + length] = rng.randbytes(length)
                case 2:
                    content[start : start + length] = rng.choice((b"\0", b"\xff", b"7")) * length
                case 3:
                    del content[start : start + length]
                case 4:
                    content[start:start] = content[rng.randrange(len(content)) :][:length]
        yield bytes(content)


@pytest.mark.parametrize("name", [*ZIPS, *TARS])
def test_mutants_are_one_error_or_hold_files_of_their_size(name: str, outcome: Outcome) -> None:
    errors = sum(outcome(content) is None for content in mutants(ARCHIVES[name], seed=7, count=40))
    assert 10 < errors <= 40


def pax(records: dict[str, str], header: bytes = b"x") -> bytes:
    """Return a block of extended headers, followed by a file."""
    info = tarfile.TarInfo("pax")
    info.type = header
    content = b"".join(record(key, value) for key, value in records.items())
    info.size = len(content)
    return info.tobuf(tarfile.USTAR_FORMAT) + content + bytes(-len(content) % BLOCK) + tar_of({"1.png": b"x"})


def record(key: str, value: str) -> bytes:
    length = len(f" {key}={value}\n".encode())
    return f"{length + len(str(length + len(str(length))))} {key}={value}\n".encode()


def header(**fields: object) -> bytes:
    info = tarfile.TarInfo("1.png")
    for name, value in fields.items():
        setattr(info, name, value)
    return info.tobuf(tarfile.GNU_FORMAT)


def zipped(**fields: object) -> bytes:
    """Return a zip of one file, whose entry in the directory is changed."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr("1.png", b"x")
        for name, value in fields.items():
            setattr(archive.infolist()[0], name, value)
    return content.getvalue()


def end_record(content: bytes, place: int, value: int, size: int = 2) -> bytes:
    start = content.rindex(b"PK\5\6") + place
    return content[:start] + value.to_bytes(size, "little") + content[start + size :]


END = bytes(2 * BLOCK)
ONE = zip_of({"1.png": b"x"})
BAD_ARCHIVES: dict[str, bytes] = {
    "nothing": b"",
    "text": b"no archive at all",
    "zeros without end": bytes(100),
    "one block of zeros": bytes(BLOCK),
    "a rar": b"Rar!\x1a\7\0" + bytes(600),
    "a 7z": b"7z\xbc\xaf\x27\x1c" + bytes(600),
    "a zstd": b"\x28\xb5\x2f\xfd" + bytes(600),
    "a gzip of text": gzip.compress(b"text"),
    "a gzip of nothing": gzip.compress(b""),
    "a gzip's beginning": b"\x1f\x8b broken",
    "a bzip2's beginning": b"BZh9 broken",
    "an xz's beginning": b"\xfd7zXZ broken",
    "a zip's beginning": b"PK\3\4 broken",
    "an end of a zip alone": b"PK" + ONE[ONE.rindex(b"PK\5\6") :],
    "a split zip": end_record(ONE, 4, 1),
    "a zip that counts more": end_record(ONE, 10, 2),
    "a zip that counts none": end_record(ONE, 10, 0),
    "a directory that is too long": end_record(ONE, 12, 1 << 20, 4),
    "a directory of 4 GiB": end_record(ONE, 12, 0xFFFFFFFF, 4),
    "a directory elsewhere": end_record(ONE, 12, 30, 4),
    "a comment that is cut": end_record(ONE, 20, 9),
    "an unknown method": zipped(compress_type=99),
    "deflate64": zipped(compress_type=9),
    "an encrypted file": zipped(flag_bits=1),
    "a strongly encrypted file": zipped(flag_bits=0x40),
    "a patch": zipped(flag_bits=0x20),
    "a wrong checksum": zipped(CRC=1),
    "a size that is too large": zipped(file_size=2),
    "a size of zero": zipped(file_size=0),
    "a packed size of zero": zipped(compress_size=0),
    "a size of 4 GiB": zipped(file_size=1 << 31),
    "an offset behind the end": zipped(header_offset=1 << 30),
    "a version of the future": zipped(extract_version=99),
    "an extra field of zip64 that is short": zipped(extra=struct.pack("<2H", 1, 0), file_size=0xFFFFFFFE),
    "a folder with content": zip_of({"a/": b"x"}),
    "an absolute name": zip_of({"/etc/passwd": b"x"}),
    "a name above": zip_of({"a/../../b": b"x"}),
    "a name of Windows above": zip_of({"..\\b": b"x"}),
    "a drive": zip_of({"C:/b": b"x"}),
    "a name with a newline": tar_of({"a\nb": b"x"}),
    "a name with an escape": tar_of({"a\x1b[2Jb": b"x"}),
    "a name of C1": tar_of({"a\x9b2Jb": b"x"}),
    "a name of 2,000 letters": zip_of({"a" * 2000: b"x"}),
    "a name in 100 folders": zip_of({"a/" * 100 + "b": b"x"}),
    "a name twice": tar_of({"a": b"x", "./a": b"y"}),
    "a name twice after slashes": tar_of({"a/b": b"x", "a//b": b"y"}),
    "a device": header(type=tarfile.CHRTYPE) + END,
    "a pipe": header(type=tarfile.FIFOTYPE) + END,
    "an unknown type": header(type=b"Z") + END,
    "a link in a circle": header(type=tarfile.SYMTYPE, linkname="1.png") + END,
    "a hard link to nothing": header(type=tarfile.LNKTYPE, linkname="2.png") + END,
    "a size below zero": header(size=-BLOCK) + tar_of({"2.png": b"x"}),
    "a size of a gigabyte": header(size=1 << 30) + END,
    "a size beyond all": header(size=1 << 62) + END,
    "a size of pax below zero": pax({"size": "-1024"}),
    "a size of pax beyond all": pax({"size": "9" * 30}),
    "a size of pax that is none": pax({"GNU.sparse.size": "x"}),
    "a sparse map that is none": pax({"GNU.sparse.map": "0,x"}),
    "a sparse map without an end": pax({"GNU.sparse.major": "1", "GNU.sparse.minor": "0"}),
    "a long name of a gigabyte": header(type=b"L", size=1 << 30) + END,
    "a pax header of two mebibytes": header(type=b"x", size=2 << 20) + bytes(2 << 20) + tar_of({"1.png": b"x"}),
    "a pax header without a file": pax({"path": "a"})[: 2 * BLOCK] + END,
    "two thousand long names": header(type=b"L", size=1) * 2000 + END,
    "two thousand values for all": pax({f"k{number}": "v" for number in range(2000)}, b"g"),
    "an old sparse file that is cut": header(type=b"S")[:482] + b"\1" + header(type=b"S")[483:],
}


@pytest.mark.parametrize("name", BAD_ARCHIVES)
def test_each_bad_archive_is_one_error_that_names_it(name: str, outcome: Outcome) -> None:
    assert outcome(BAD_ARCHIVES[name]) is None


def test_an_odd_archive_that_is_whole_is_read(outcome: Outcome) -> None:
    assert outcome(zip_of({})) == outcome(tar_of({})) == {}
    assert outcome(zip_of({"a/": b"", "__MACOSX/._a": b"y", "a/1.png": b""})) == {"a/1.png": b""}
    assert outcome(pax({"path": "é.png", "comment": "c"})) == {"é.png": b"x"}
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.comment = b"a comment"
        archive.writestr("1.png", b"x")
    assert outcome(content.getvalue()) == {"1.png": b"x"}


def test_the_count_of_a_large_zip_is_compared(outcome: Outcome, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zipfile, "ZIP_FILECOUNT_LIMIT", 1)  # as if there were 65,536
    whole = zip_of(FILES)
    record = whole.rindex(b"PK\6\6")
    assert outcome(whole) == FILES
    for place in (*range(32, 40), *range(40, 48)):  # of the count, and of the bytes of the directory
        assert outcome(flipped(whole, record + place, 0)) is None


def bound_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener, contextlib.chdir(path.parent):  # the bound is 108 letters
        listener.bind(path.name)


def link_to(target: Callable[[Path], object]) -> Callable[[Path], object]:
    """Return a function that makes a link to a hidden file beside it, made by `target`."""

    def make(path: Path) -> None:
        target(path.with_name(".h"))
        path.symlink_to(".h")

    return make


BAD_FILES: dict[str, Callable[[Path], object]] = {
    "pipe": os.mkfifo,
    "socket": bound_socket,
    "link to a device": lambda path: path.symlink_to("/dev/zero"),
    "link out": lambda path: path.symlink_to("/etc/passwd"),
    "link up": lambda path: path.symlink_to("../outside.png"),
    "link to a link out": link_to(lambda path: path.symlink_to("/etc/passwd")),
    "link to a folder": lambda path: path.symlink_to("b"),
    "link to a folder out": lambda path: path.symlink_to("/etc"),
    "link to its own folder": lambda path: path.symlink_to("."),
    "link to nothing": lambda path: path.symlink_to("nothing.png"),
    "link to itself": lambda path: path.symlink_to(path.name),
    "link to a pipe": link_to(os.mkfifo),
    "link through a file": lambda path: path.symlink_to("b/1.png/x"),
    "name with a newline": lambda path: path.with_name("l.png\n").write_bytes(b"x"),
    "name that is not UTF-8": lambda path: Path(os.fsdecode(bytes(path.parent) + b"/l.png\xff")).write_bytes(b"x"),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_each_bad_file_in_a_folder_is_one_error_that_names_it(name: str, tmp_path: Path) -> None:
    (tmp_path / "outside.png").write_bytes(b"x")
    for file in ("b/1.png", "c/1.png"):
        (tmp_path / "source" / file).parent.mkdir(parents=True)
        (tmp_path / "source" / file).write_bytes(b"x")
    BAD_FILES[name](tmp_path / "source" / "l.png")
    with pytest.raises(UserError, match=r"l\.png.*; "):
        content_of(tmp_path / "source")


@pytest.mark.parametrize(
    "make", [os.mkfifo, bound_socket, partial(Path.symlink_to, target="/dev/zero"), lambda _: None]
)
def test_a_source_that_is_no_file_is_not_opened(make: Callable[[Path], object], tmp_path: Path) -> None:
    make(tmp_path / "source")
    with pytest.raises(UserError, match=r"source .*; "):
        content_of(tmp_path / "source")
