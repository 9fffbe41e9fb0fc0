import io
import tarfile
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlops.images.archives import archives, entry
from mlops.images.archives.archives import open_entries
from mlops.images.archives.entry import Entry
from mlops.images.image_tar import pack
from mlops.project.errors import UserError

FILES = {"b/2.png": b"two", "a.png": b"one", "b/10.png": b"ten" * 1000}
HIDDEN = {
    **dict.fromkeys((".DS_Store", "b/.hidden.png", "__MACOSX/b/2.png", ".git/config", "b/Icon\r"), b"x"),
    **dict.fromkeys(("b/Thumbs.db", "THUMBS.DB", "ehthumbs.db", "Desktop.ini", "$RECYCLE.BIN/1.png"), b"x"),
    **dict.fromkeys(("System Volume Information/1.png", "lost+found/1.png", "b/@eaDir/2.png/thumb.jpg"), b"x"),
}


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


def make_linked_folder(path: Path, links: dict[str, str]) -> Path:
    make_folder(path, FILES)
    for name, target in links.items():
        (path / name).parent.mkdir(exist_ok=True)
        (path / name).symlink_to(target)
    return path


def make_linked_zip(path: Path, links: dict[str, str]) -> Path:
    make_zip(path, FILES)
    with zipfile.ZipFile(path, "a") as archive:
        for name, target in links.items():
            info = zipfile.ZipInfo(name)
            info.external_attr = 0o120777 << 16
            archive.writestr(info, target)
    return path


def make_linked_tar(path: Path, links: dict[str, str], kind: bytes = tarfile.SYMTYPE) -> Path:
    make_tar(path, FILES)
    with tarfile.open(path, "a") as tar:
        for name, target in links.items():
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, target
            tar.addfile(info)
    return path


LINKED: list[Callable[[Path, dict[str, str]], Path]] = [make_linked_folder, make_linked_zip, make_linked_tar]


@pytest.mark.parametrize("make", LINKED)
def test_a_link_to_a_file_of_the_data_is_that_file(
    tmp_path: Path, make: Callable[[Path, dict[str, str]], Path]
) -> None:
    source = make(tmp_path / "source", {"b/c.png": "../a.png", "d.png": "b/c.png", "e.png": "./b/2.png"})
    linked = {"b/c.png": b"one", "d.png": b"one", "e.png": b"two"}
    assert content_of(source, tmp_path) == sorted((FILES | linked).items())


@pytest.mark.parametrize("make", LINKED)
@pytest.mark.parametrize(
    "target", ["/etc/passwd", "../outside.png", "b", ".", "missing.png", "l.png", "../source/../outside.png", "a.png/x"]
)
def test_every_other_link_is_refused_by_name(
    tmp_path: Path, make: Callable[[Path, dict[str, str]], Path], target: str
) -> None:
    (tmp_path / "outside.png").write_bytes(b"x")
    with pytest.raises(UserError, match=r"l\.png"):
        content_of(make(tmp_path / "source", {"l.png": target}), tmp_path)


@pytest.mark.parametrize("make", LINKED)
def test_links_in_a_circle_end(tmp_path: Path, make: Callable[[Path, dict[str, str]], Path]) -> None:
    with pytest.raises(UserError, match=r"[lm]\.png"):
        content_of(make(tmp_path / "source", {"l.png": "m.png", "m.png": "l.png"}), tmp_path)


@pytest.mark.parametrize("make", LINKED)
def test_hidden_links_are_ignored_and_may_be_led_to(
    tmp_path: Path, make: Callable[[Path, dict[str, str]], Path]
) -> None:
    source = make(tmp_path / "source", {".h.png": "/etc/passwd", ".i": "a.png", "j.png": ".i", "b/Icon\r": "/nowhere"})
    assert content_of(source, tmp_path) == sorted((FILES | {"j.png": b"one"}).items())


def test_a_hard_link_in_a_tar_is_its_file_from_the_root_of_the_tar(tmp_path: Path) -> None:
    source = make_linked_tar(tmp_path / "archive.tar", {"b/c.png": "b/2.png", "d.png": "./a.png"}, tarfile.LNKTYPE)
    assert content_of(source, tmp_path) == sorted((FILES | {"b/c.png": b"two", "d.png": b"one"}).items())
    with pytest.raises(UserError, match=r"'b/l\.png'"):
        content_of(make_linked_tar(tmp_path / "other.tar", {"b/l.png": "2.png"}, tarfile.LNKTYPE), tmp_path)


def test_the_source_itself_may_be_a_link(tmp_path: Path) -> None:
    make_linked_folder(tmp_path / "source", {"d.png": "a.png", "e.png": str(tmp_path / "source" / "a.png")})
    (tmp_path / "link").symlink_to("source")
    assert content_of(tmp_path / "link", tmp_path) == sorted(
        (FILES | dict.fromkeys(["d.png", "e.png"], b"one")).items()
    )


@pytest.mark.parametrize("make", LINKED[1:])
def test_links_count_as_what_they_lead_to(
    tmp_path: Path, make: Callable[[Path, dict[str, str]], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    source = make(tmp_path / "archive", {f"{number}.png": "b/10.png" for number in range(10)})
    monkeypatch.setattr(archives, "LARGEST_RATIO", 0)
    monkeypatch.setattr(archives, "ALWAYS_ALLOWED", 33_006)
    assert len(content_of(source, tmp_path)) == 13
    monkeypatch.setattr(archives, "ALWAYS_ALLOWED", 33_005)
    with pytest.raises(UserError, match="33,005 bytes"):
        content_of(source, tmp_path)


@pytest.mark.parametrize("kind", [tarfile.CHRTYPE, tarfile.FIFOTYPE])
def test_devices_in_a_tar_are_refused(tmp_path: Path, kind: bytes) -> None:
    with pytest.raises(UserError, match=r"'device\.png'"):
        content_of(make_linked_tar(tmp_path / "archive.tar", {"device.png": "/dev/null"}, kind), tmp_path)


def test_encrypted_zip_is_refused(tmp_path: Path) -> None:
    data = bytearray(make_zip(tmp_path / "archive.zip", {"a.png": b"x"}).read_bytes())
    data[data.index(b"PK\x01\x02") + 8] |= 1  # the flag in the central directory
    (tmp_path / "archive.zip").write_bytes(data)
    with pytest.raises(UserError, match=r"'a\.png'"):
        content_of(tmp_path / "archive.zip", tmp_path)


def test_a_name_may_occur_once(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"'a\.png'"):
        content_of(make_tar(tmp_path / "archive.tar", {"a.png": b"x", "./a.png": b"y"}), tmp_path)


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


def test_a_file_that_is_one_image_is_not_called_damaged(tmp_path: Path) -> None:
    (tmp_path / "cat.png").write_bytes(b"x")
    with pytest.raises(UserError, match=r"cat\.png is one image"):
        content_of(tmp_path / "cat.png", tmp_path)


@pytest.mark.parametrize("make", MAKERS)
def test_the_number_of_files_has_a_bound(
    tmp_path: Path, make: Callable[[Path, dict[str, bytes]], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    source = make(tmp_path / "source", FILES)
    monkeypatch.setattr(entry, "MOST_FILES", 3)
    assert len(content_of(source, tmp_path)) == 3
    monkeypatch.setattr(entry, "MOST_FILES", 2)
    with pytest.raises(UserError, match=r"source has more than 2 files"):
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
