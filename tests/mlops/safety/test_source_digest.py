import os
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from mlops.project.errors import UserError
from mlops.safety import source_digest
from mlops.safety.source_digest import KEPT, recorded_sha256, source_sha256
from tests.project import Project


@pytest.fixture
def images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder of two files in an empty project."""
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    for name in ("a/1.png", "b/2.png"):
        path = tmp_path / "images" / name
        path.parent.mkdir(parents=True)
        path.write_bytes(name.encode())
    return tmp_path / "images"


def other_content(images: Path) -> None:
    path = images / "a" / "1.png"
    status = path.stat()
    path.write_bytes(b"a/2.png")
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + 1))


CHANGES: dict[str, Callable[[Path], object]] = {
    "an image more": lambda images: (images / "b" / "3.png").write_bytes(b"more"),
    "an image less": lambda images: (images / "b" / "2.png").unlink(),
    "another name": lambda images: (images / "b" / "2.png").rename(images / "b" / "4.png"),
    "another class": lambda images: (images / "b" / "2.png").rename(images / "a" / "2.png"),
    "other content of the same size": other_content,
}


@pytest.mark.parametrize("change", CHANGES)
def test_every_change_changes_the_digest_until_it_is_undone(images: Path, change: str) -> None:
    shutil.copytree(images, images.parent / "before")
    before = source_sha256(images)
    CHANGES[change](images)
    assert source_sha256(images) != before
    shutil.rmtree(images)
    shutil.copytree(images.parent / "before", images)
    assert source_sha256(images) == before


def test_times_hidden_files_and_the_place_of_the_folder_change_nothing(images: Path) -> None:
    before = source_sha256(images)
    os.utime(images / "a" / "1.png", (0, 0))
    (images / ".hidden").write_bytes(b"")
    assert source_sha256(images) == before
    assert source_sha256(images.rename(images.parent / "moved")) == before


def test_files_are_read_once(images: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with zipfile.ZipFile(images.parent / "images.zip", "w") as archive:
        archive.write(images / "a" / "1.png", "a/1.png")
    for source in (images, images.parent / "images.zip"):
        before = source_sha256(source)
        with monkeypatch.context() as patch:
            patch.setattr(source_digest, "file_digest", None)  # a second reading would be an error
            assert source_sha256(source) == before


def test_without_the_originals_what_was_packed_counts(images: Path) -> None:
    raw = images.parent / "raw"
    raw.mkdir()
    (raw / KEPT).write_text("ab", encoding="ascii")
    assert recorded_sha256("nowhere", raw) == "ab"
    assert recorded_sha256("nowhere", images) != "ab"
    assert recorded_sha256("images", raw) == source_sha256(images)


def test_a_link_that_leads_out_is_refused_before_it_is_read(images: Path) -> None:
    (images / "a" / "l.png").symlink_to("/etc/passwd")
    with pytest.raises(UserError, match=r"l\.png"):
        source_sha256(images)


def test_a_file_that_cannot_be_read_is_one_error(images: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(path: Path) -> str:
        raise OSError(5, "Input/output error", str(path))

    monkeypatch.setattr(source_digest, "file_digest", fail)
    with pytest.raises(UserError, match=r"images cannot be read: .*1\.png.*; "):
        source_sha256(images)


@pytest.mark.slow
def test_a_changed_folder_is_packed_anew_by_a_plain_repro(pictured: Project, tmp_path: Path) -> None:
    project = pictured.copy(tmp_path / "copy")

    def fetched() -> bool:
        return "Running stage 'fetch'" in project.dvc("repro", "fetch")

    assert not fetched()
    image = next(path for path in sorted((project.root / "pictures").rglob("*.png")))
    image.rename(image.with_name("renamed.png"))
    assert fetched()
    assert b"renamed.png" in (project.root / "data/raw/images.csv").read_bytes()
    shutil.rmtree(project.root / "pictures")
    assert not fetched()
