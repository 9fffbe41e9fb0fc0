import io
import tarfile
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlops.images import archives
from mlops.images.archives import Entry, open_entries
from mlops.images.image_tar import pack
from mlops.project.errors import UserError

FILES = {"b/2.png": b"two", "a.png": b"one", "b/10.png": b"ten" * 1000}
HIDDEN = {".DS_Store": b"x", "b/.hidden.png": b"x", "__MACOSX/b/2.png": b"x", ".git/config": b"x"}


def make_folder(path: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(content)
    return path


def make_zip(path: Path, files: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def make_tar(path: Path, files: dict[str, bytes], mode: str = "w") -> Path:
    with tarfile.open(path, mode) as tar:  # type: ignore[call-overload]  # a parametrized literal
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size, info.mtime = len(content), 1_000_000
            tar.addfile(info, io.BytesIO(content))
    return path


def content_of(source: Path, scratch: Path) -> list[tuple[str, bytes]]:
    with open_entries(source, scratch=scratch) as entries:
        return [(entry.name, read(entry)) for entry in entries]


def read(entry: Entry) -> bytes:
    with entry.open() as file:
        return file.read()


MAKERS: list[Callable[[Path, dict[str, bytes]], Path]] = [
    make_folder,
    make_zip,
    make_tar,
    partial(make_tar, mode="w:gz"),
    partial(make_tar, mode="w:bz2"),
    partial(make_tar, mode="w:xz"),
]


@pytest.mark.parametrize("make", MAKERS)
def test_every_kind_of_source_gives_the_same_files_sorted_without_hidden_ones(
    tmp_path: Path, make: Callable[[Path, dict[str, bytes]], Path]
) -> None:
    assert content_of(make(tmp_path / "source", FILES | HIDDEN), tmp_path) == sorted(FILES.items())


@pytest.mark.parametrize("make", MAKERS)
def test_the_packed_tar_depends_only_on_names_and_contents(
    tmp_path: Path, make: Callable[[Path, dict[str, bytes]], Path]
) -> None:
    written = []
    for number, files in enumerate([FILES, dict(reversed(FILES.items()))]):
        source = make(tmp_path / f"source{number}", files)
        with open_entries(source, scratch=tmp_path) as entries:
            pack(entries, tmp_path / f"packed{number}.tar", tmp_path / f"packed{number}.csv")
        written.append([(tmp_path / f"packed{number}.{kind}").read_bytes() for kind in ("tar", "csv")])
    with open_entries(make_tar(tmp_path / "plain.tar", FILES), scratch=tmp_path) as entries:
        pack(entries, tmp_path / "reference.tar", tmp_path / "reference.csv")
    assert written[0] == written[1] == [(tmp_path / f"reference.{kind}").read_bytes() for kind in ("tar", "csv")]
    with tarfile.open(tmp_path / "packed0.tar", "r:") as tar:
        assert [(info.name, info.mtime, info.mode, info.uid) for info in tar] == [
            (name, 0, 0o644, 0) for name in sorted(FILES)
        ]


@given(st.dictionaries(st.from_regex(r"[a-zé\u202f]{1,120}(/[a-z]{1,90}){0,3}\.png", fullmatch=True), st.binary()))
@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_packing_keeps_every_byte_and_name(tmp_path: Path, files: dict[str, bytes]) -> None:
    entries = [Entry(name, len(data), partial(io.BytesIO, data)) for name, data in sorted(files.items())]
    pack(entries, tmp_path / "packed.tar", tmp_path / "packed.csv")
    with tarfile.open(tmp_path / "packed.tar", "r:") as tar:
        read = {info.name: file.read() for info in tar if (file := tar.extractfile(info))}
    assert read == files


UNSAFE = ["/etc/passwd", "../up.png", "a/../../up.png", "C:\\evil.png", "a\nb.png"]


@pytest.mark.parametrize(
    ("make", "name"),
    # In a tar a backslash is a letter, so `..\\up.png` leads nowhere.
    [(make_zip, "..\\up.png"), *((make, name) for make in (make_zip, make_tar) for name in UNSAFE)],
)
def test_unsafe_names_are_refused(tmp_path: Path, make: Callable[[Path, dict[str, bytes]], Path], name: str) -> None:
    source = make(tmp_path / "archive", {name: b"x"})
    with pytest.raises(UserError, match="archive: "):
        content_of(source, tmp_path)


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE])
def test_links_and_devices_in_a_tar_are_refused(tmp_path: Path, kind: bytes) -> None:
    with tarfile.open(tmp_path / "archive.tar", "w") as tar:
        info = tarfile.TarInfo("link.png")
        info.type, info.linkname = kind, "/etc/passwd"
        tar.addfile(info)
    with pytest.raises(UserError, match=r"'link\.png'"):
        content_of(tmp_path / "archive.tar", tmp_path)


def test_links_in_a_zip_are_refused(tmp_path: Path) -> None:
    info = zipfile.ZipInfo("link.png")
    info.external_attr = 0o120777 << 16
    with zipfile.ZipFile(tmp_path / "archive.zip", "w") as archive:
        archive.writestr(info, "/etc/passwd")
    with pytest.raises(UserError, match=r"'link\.png'"):
        content_of(tmp_path / "archive.zip", tmp_path)


def test_encrypted_zip_is_refused(tmp_path: Path) -> None:
    data = bytearray(make_zip(tmp_path / "archive.zip", {"a.png": b"x"}).read_bytes())
    data[data.index(b"PK\x01\x02") + 8] |= 1  # the flag in the central directory
    (tmp_path / "archive.zip").write_bytes(data)
    with pytest.raises(UserError, match=r"'a\.png'"):
        content_of(tmp_path / "archive.zip", tmp_path)


def test_a_name_may_occur_once(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"'a\.png'"):
        content_of(make_tar(tmp_path / "archive.tar", {"a.png": b"x", "./a.png": b"y"}), tmp_path)


@pytest.mark.parametrize("make", MAKERS)
def test_one_file_has_a_bound(
    tmp_path: Path, make: Callable[[Path, dict[str, bytes]], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    source = make(tmp_path / "source", {"a.png": bytes(1001)})
    monkeypatch.setattr(archives, "LARGEST_FILE", 1001)
    assert len(content_of(source, tmp_path)) == 1
    monkeypatch.setattr(archives, "LARGEST_FILE", 1000)
    with pytest.raises(UserError, match=r"'a.png' .*1,001 .*1,000"):
        content_of(source, tmp_path)


@pytest.mark.parametrize("make", MAKERS[1:])
def test_a_bomb_is_refused_before_it_is_unpacked(
    tmp_path: Path, make: Callable[[Path, dict[str, bytes]], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    files = {f"{number}.png": bytes(20_000) for number in range(100)}  # two million zeros
    source = make(tmp_path / "archive", files)
    assert len(content_of(source, tmp_path)) == 100
    monkeypatch.setattr(archives, "ALWAYS_ALLOWED", 100_000)
    monkeypatch.setattr(archives, "LARGEST_RATIO", 0)
    with pytest.raises(UserError, match=r"archive.*100,000 bytes"):
        content_of(source, tmp_path)


@pytest.mark.parametrize("content", [b"", b"no archive at all", b"PK\x03\x04 broken", b"\x1f\x8b broken", b"Rar!"])
def test_what_is_no_archive_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "archive").write_bytes(content)
    with pytest.raises(UserError, match="archive"):
        content_of(tmp_path / "archive", tmp_path)


def test_a_zip_with_flipped_bytes_is_damaged(tmp_path: Path) -> None:
    data = bytearray(make_zip(tmp_path / "archive.zip", {"a.png": b"x" * 50}).read_bytes())
    data[37] ^= 0xFF
    (tmp_path / "archive.zip").write_bytes(data)
    with pytest.raises(UserError, match=r"archive\.zip"):
        content_of(tmp_path / "archive.zip", tmp_path)


def test_a_folder_follows_links_to_files_and_refuses_those_to_folders(tmp_path: Path) -> None:
    source = make_folder(tmp_path / "source", {"a.png": b"one"})
    (source / "b.png").symlink_to(source / "a.png")
    assert [name for name, _ in content_of(source, tmp_path)] == ["a.png", "b.png"]
    (source / "c").symlink_to(tmp_path)
    with pytest.raises(UserError, match="source/c"):
        content_of(source, tmp_path)
    (source / "c").unlink()
    (source / "d.png").symlink_to(source / "missing.png")
    with pytest.raises(UserError, match=r"source/d\.png"):
        content_of(source, tmp_path)
