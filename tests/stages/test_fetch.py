import gzip
import hashlib
import importlib.util
import os
import tarfile
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from mlops.images.archives import image_files
from mlops.images.archives.entry import Entry
from mlops.images.published import PUBLISHED, Download
from mlops.project.errors import UserError
from mlops.project.params import DataConfig
from mlops.safety.new_outputs import new_outputs
from stages import fetch as module

MNIST = Path(__file__).parents[3] / "shared" / "data" / "mnist"
FILES = {name: f"content of {name}".encode() * 100 for name in PUBLISHED["mnist"].files}
BATCHES = {name: f"content of {name}".encode() * 100 for name in PUBLISHED["cifar10"].files}


def fetch(raw: Path, data: DataConfig) -> None:
    """Run the stage as DVC does."""
    with new_outputs([raw]) as [place]:
        module.fetch(place, data=data)


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a project's root; small files are the published ones here."""
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    for name, files in (("mnist", FILES), ("fashion_mnist", FILES), ("cifar10", BATCHES)):
        digests = {file: hashlib.sha256(content).hexdigest() for file, content in files.items()}
        monkeypatch.setitem(PUBLISHED, name, replace(PUBLISHED[name], files=digests))
    return tmp_path


def write(folder: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def content(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_digits_come_with_scikit_learn(root: Path) -> None:
    fetch(root / "raw", data=DataConfig("digits", None))
    assert list(content(root / "raw")) == ["digits.csv.gz"]


def test_other_digits_are_refused(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(root / "sklearn" / "datasets" / "data", {"digits.csv.gz": b"other"})
    found = SimpleNamespace(origin=str(root / "sklearn" / "__init__.py"))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: found)
    with pytest.raises(UserError, match=r"sklearn/datasets/data/digits\.csv\.gz"):
        fetch(root / "raw", data=DataConfig("digits", None))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match="scikit-learn"):
        fetch(root / "raw", data=DataConfig("digits", None))


@pytest.mark.skipif(not MNIST.exists(), reason="needs the shared MNIST files beside the checkout")
def test_mnist_is_verified_by_what_is_inside(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    fetch(root / "raw", data=DataConfig("mnist", str(MNIST)))
    md5s = {name: hashlib.md5(data).hexdigest()[:8] for name, data in content(root / "raw").items()}
    assert md5s == {
        "train-images-idx3-ubyte": "6bbc9ace",
        "train-labels-idx1-ubyte": "a25bea73",
        "t10k-images-idx3-ubyte": "2646ac64",
        "t10k-labels-idx1-ubyte": "27ae3e4e",
    }


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist"])
def test_local_files_may_be_packed_or_not(root: Path, name: str) -> None:
    mixed = {
        f"{file}.gz" if number % 2 else file: gzip.compress(data) if number % 2 else data
        for number, (file, data) in enumerate(FILES.items())
    }
    write(root / "local", mixed | {"more.txt": b"x"})
    fetch(root / "raw", data=DataConfig(name, "local"))  # type: ignore[arg-type]  # a parametrized literal
    assert content(root / "raw") == FILES


@pytest.mark.parametrize("path", ["{0}", "MNIST/raw/{0}", "{0}/{0}"])
@pytest.mark.parametrize("packed", [True, False])
def test_names_may_have_a_dot_for_the_dash_and_be_in_any_folder(root: Path, path: str, packed: bool) -> None:
    for file, data in FILES.items():
        name = path.format(file.replace("-idx", ".idx")) + (".gz" if packed else "")
        write(root / "local", {name: gzip.compress(data) if packed else data})
    fetch(root / "raw", data=DataConfig("mnist", "local"))
    assert content(root / "raw") == FILES


def test_the_suffix_does_not_decide_what_is_packed(root: Path) -> None:
    write(root / "local", {f"{file}.gz": data for file, data in FILES.items()})
    fetch(root / "raw", data=DataConfig("mnist", "local"))
    assert content(root / "raw") == FILES


def test_one_wrong_byte_is_found_and_nothing_is_left(root: Path) -> None:
    name = "t10k-labels-idx1-ubyte"
    wrong = b"X" + FILES[name][1:]
    write(root / "local", FILES | {name: wrong})
    with pytest.raises(UserError) as caught:
        fetch(root / "raw", data=DataConfig("mnist", "local"))
    for word in (f"local/{name}", hashlib.sha256(wrong).hexdigest(), hashlib.sha256(FILES[name]).hexdigest()):
        assert word in str(caught.value)
    assert not list(root.glob("*raw*"))


def test_a_truncated_gzip_is_damaged(root: Path) -> None:
    write(root / "local", {f"{file}.gz": gzip.compress(data)[:-9] for file, data in FILES.items()})
    with pytest.raises(UserError, match="local"):
        fetch(root / "raw", data=DataConfig("mnist", "local"))


def test_missing_files_are_listed(root: Path) -> None:
    write(root / "local", dict(list(FILES.items())[:2]))
    with pytest.raises(UserError, match=r"data\.path: .*local .*t10k-images-idx3-ubyte, t10k-labels-idx1-ubyte;"):
        fetch(root / "raw", data=DataConfig("mnist", "local"))


@pytest.mark.parametrize(("name", "remedy"), [("mnist", "correct it, or set it to null"), ("folder", "correct it$")])
def test_a_path_that_does_not_exist_is_named_with_its_key(root: Path, name: str, remedy: str) -> None:
    with pytest.raises(UserError, match=rf"data\.path: nowhere .*{remedy}"):
        fetch(root / "raw", data=DataConfig(name, "nowhere"))  # type: ignore[arg-type]  # a parametrized literal


@pytest.mark.parametrize("prefix", ["", "cifar-10-batches-bin/"])
@pytest.mark.parametrize("packed", [True, False])
def test_cifar_comes_from_the_archive_or_its_folder(root: Path, prefix: str, packed: bool) -> None:
    folder = write(root / "local", {prefix + name: data for name, data in BATCHES.items()})
    if packed:
        with tarfile.open(root / "cifar.tar.gz", "w:gz") as tar:
            tar.add(folder, ".")
    fetch(root / "raw", data=DataConfig("cifar10", "cifar.tar.gz" if packed else "local"))
    assert content(root / "raw") == BATCHES


def test_pickled_cifar_is_not_read(root: Path) -> None:
    write(root / "local" / "cifar-10-batches-py", {"data_batch_1": b"x", "test_batch": b"x"})
    with pytest.raises(UserError, match=r"cifar-10-binary\.tar\.gz"):
        fetch(root / "raw", data=DataConfig("cifar10", "local"))


def serve(monkeypatch: pytest.MonkeyPatch, offered: dict[str, bytes]) -> list[tuple[list[str], str]]:
    asked = []

    def download(urls: list[str], target: Path, *, sha256: str, remedy: str) -> None:
        asked.append((urls, sha256))
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(offered[target.name])

    monkeypatch.setattr(module, "download", download)
    return asked


def test_without_a_path_every_file_is_downloaded_and_unpacked(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = serve(monkeypatch, {f"{name}.gz": gzip.compress(data) for name, data in FILES.items()})
    fetch(root / "raw", data=DataConfig("mnist", None))
    assert content(root / "raw") == FILES
    assert [len(urls) for urls, _ in asked] == [2, 2, 2, 2]
    assert asked[3] == (
        [
            "https://ossci-datasets.s3.amazonaws.com/mnist/t10k-labels-idx1-ubyte.gz",
            "https://storage.googleapis.com/cvdf-datasets/mnist/t10k-labels-idx1-ubyte.gz",
        ],
        "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
    )


def test_a_downloaded_archive_is_unpacked(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write(root / "local", BATCHES)
    with tarfile.open(root / "cifar.tar.gz", "w:gz") as tar:
        tar.add(folder, "cifar-10-batches-bin")
    serve(monkeypatch, {"cifar-10-binary.tar.gz": (root / "cifar.tar.gz").read_bytes()})
    fetch(root / "raw", data=DataConfig("cifar10", None))
    assert content(root / "raw") == BATCHES


def test_a_failed_download_says_how_to_bring_the_files(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    offer = Download("a.gz", ("http://127.0.0.1:9/",), "0" * 64)
    monkeypatch.setitem(PUBLISHED, "mnist", replace(PUBLISHED["mnist"], downloads=(offer, replace(offer, name="b.gz"))))
    with pytest.raises(UserError, match=r"a\.gz, b\.gz .*data\.path"):
        fetch(root / "raw", data=DataConfig("mnist", None))
    assert not (root / "raw").exists()


def as_zip(folder: Path) -> Path:
    with zipfile.ZipFile(folder.with_suffix(".zip"), "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(folder.rglob("*"), reverse=True):
            archive.write(path, path.relative_to(folder))
    return folder.with_suffix(".zip")


def as_tar(folder: Path) -> Path:
    with tarfile.open(folder.with_suffix(".tgz"), "w:gz") as tar:
        tar.add(folder, ".")
    return folder.with_suffix(".tgz")


@pytest.mark.parametrize("form", [Path, as_zip, as_tar])
def test_a_folder_of_images_becomes_one_tar_of_the_original_bytes(root: Path, form: Callable[[Path], Path]) -> None:
    files = {"b/2.jpg": b"2" * 99, "a.jpg": b"1", "b/10.png": b""}
    source = form(write(root / "pets", files | {".hidden": b"x", "__MACOSX/a.jpg": b"x"}))
    fetch(root / "raw", data=DataConfig("folder", source.name))
    assert sorted(content(root / "raw")) == ["images.csv", "images.tar", "source.sha256"]
    with tarfile.open(root / "raw" / "images.tar", "r:") as tar:
        assert [(info.name, file.read()) for info in tar if (file := tar.extractfile(info))] == sorted(files.items())


@pytest.mark.parametrize("form", [Path, as_zip, as_tar])
def test_what_lies_beside_images_is_left_out_and_counted(
    root: Path, form: Callable[[Path], Path], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pictures = {
        "a/1.JPG": b"x",
        "a/2.jpg_large": b"\xff\xd8\xff\xe0",
        "b/3": b"\x89PNG\r\n\x1a\n",
        "b/4.gif": b"GIF89a",
    }
    beside = {f"{name}.{suffix}": b"x" * 9 for name in pictures for suffix in ("txt", "json")}
    monkeypatch.setattr(image_files, "LARGEST_FILE", 8)  # of images alone
    source = form(write(root / "pets", pictures | beside | {"LICENSE": b"x", "b/dataset.json": b"{}"}))
    fetch(root / "raw", data=DataConfig("folder", source.name))
    with tarfile.open(root / "raw" / "images.tar", "r:") as tar:
        assert tar.getnames() == sorted(pictures)
    assert "10 files" in (said := capsys.readouterr().err)
    for kind in ("4 .txt", "5 .json", "1 without suffix"):
        assert kind in said


def test_files_without_an_image_among_them_are_an_error_that_counts_them(root: Path) -> None:
    write(root / "pets", {"a.txt": b"x", "b.txt": b"x", "c.mp4": b"x"})
    with pytest.raises(UserError, match=r"data\.path: .*pets .*2 \.txt, 1 \.mp4.*JPEG"):
        fetch(root / "raw", data=DataConfig("folder", "pets"))
    assert not (root / "raw").exists()


@pytest.mark.parametrize("damage", ["cut", "flipped", "zeroed"])
def test_a_tar_that_is_damaged_at_a_member_is_not_taken_for_a_shorter_one(root: Path, damage: str) -> None:
    folder = write(root / "pets", {f"{number:04}.jpg": b"x" * 100 for number in range(1000)})
    with tarfile.open(root / "pets.tar", "w") as tar:
        for path in sorted(folder.iterdir()):
            tar.add(path, path.name)
    whole, header = (root / "pets.tar").read_bytes(), 100 * 1024
    other = {
        "cut": whole[:header],
        "flipped": whole[: header + 130] + bytes([whole[header + 130] ^ 1]) + whole[header + 131 :],
        "zeroed": whole[:header] + bytes(512) + whole[header + 512 :],
    }
    (root / "pets.tar").write_bytes(other[damage])
    with pytest.raises(UserError, match=r"pets\.tar .*; get a fresh copy"):
        fetch(root / "raw", data=DataConfig("folder", "pets.tar"))
    assert not list(root.glob("*raw*"))


def test_a_pipe_is_refused_and_not_opened(root: Path) -> None:
    os.mkfifo(root / "pets")
    with pytest.raises(UserError, match=r"data\.path: 'pets' .*pipe"):
        fetch(root / "raw", data=DataConfig("folder", "pets"))


def test_an_empty_folder_is_an_error(root: Path) -> None:
    write(root / "pets", {".hidden": b"x"})
    with pytest.raises(UserError, match=r"data\.path: .*pets"):
        fetch(root / "raw", data=DataConfig("folder", "pets"))
    assert not (root / "raw").exists()


@pytest.mark.parametrize("form", [Path, as_zip, as_tar])
def test_folders_whose_meaning_is_not_clear_are_an_error_before_anything_is_packed(
    root: Path, form: Callable[[Path], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    source = form(write(root / "pets", {f"{name}/1.jpg": b"x" for name in ("train", "test", "cats")}))
    monkeypatch.setattr(module, "pack", lambda *_: pytest.fail("packed"))
    with pytest.raises(UserError, match=rf"^params\.yaml: data\.path: .*{source.name}: .*test, train .*cats .*; "):
        fetch(root / "raw", data=DataConfig("folder", source.name))
    assert not (root / "raw").exists()


def test_a_full_disk_leaves_nothing_behind(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(entries: list[Entry], target: Path, index: Path) -> None:
        target.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    write(root / "pets", {"a.jpg": b"x"})
    monkeypatch.setattr(module, "pack", fail)
    with pytest.raises(UserError, match=str(Path.cwd())):
        fetch(root / "raw", data=DataConfig("folder", "pets"))
    assert not list(root.glob("*raw*"))
