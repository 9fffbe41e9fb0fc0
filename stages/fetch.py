"""The stage `fetch`: the original files of the data, verified."""

import importlib.util
import shutil
import sys
from io import BufferedReader
from pathlib import Path, PurePosixPath
from typing import cast

from mlops.images.archives.archives import open_entries
from mlops.images.archives.decompression import copy_bounded, unpacked
from mlops.images.archives.entry import Entry, readable
from mlops.images.archives.image_files import LARGEST_FILE, images, kinds
from mlops.images.image_tar import IMAGES_LIST, IMAGES_TAR, pack
from mlops.images.layout.layout import layout
from mlops.images.layout.stylegan_labels import LABELS
from mlops.images.published import DIGITS, DIGITS_SHA256, PUBLISHED, Published
from mlops.project.download import download
from mlops.project.errors import UserError
from mlops.project.identity import file_digest, located
from mlops.project.params import DataConfig
from mlops.safety.new_outputs import Output
from mlops.safety.source_digest import KEPT, source_sha256


def fetch(raw: Output, *, data: DataConfig) -> None:
    """Write the original files of a data set: bundled, downloaded, or from a local copy.

    A published data set is stored unpacked under its published names, each file with the published sha256. A user's own
    images become one uncompressed `images.tar`, whose bytes depend on names and contents alone, and `images.csv`, the
    list of what lies where in it; `source.sha256` is by which the stage `code` knows whether the images have changed.

    Args:
        raw: new; a folder.
        data: which data set, and where a local copy of it is. A relative path counts from the project's root.

    Raises:
        UserError: the local copy is missing, incomplete, damaged, unsafe, not what was published, or in folders whose
            meaning is not clear; no mirror works; or the disk is full.
    """
    raw.mkdir(parents=True)
    if data.name == "digits":
        _copy_digits(raw)
    elif data.name == "folder":
        _pack_images(_local(data), raw)
    elif data.path is None:
        _download(PUBLISHED[data.name], raw)
    else:
        _take(PUBLISHED[data.name], _local(data), raw)


def _local(data: DataConfig) -> Path:
    if data.path is None:
        raise UserError("params.yaml: data.path must name a folder, zip or tar of images if data.name is folder")
    path = located(data.path, "params.yaml: data.path")
    if not path.exists():
        otherwise = "" if data.name == "folder" else f", or set it to null to download {data.name}"
        raise UserError(f"params.yaml: data.path: {data.path} does not exist (that is {path}); correct it{otherwise}")
    return path


def _copy_digits(folder: Path) -> None:
    package = importlib.util.find_spec("sklearn")  # not imported: that would take a second
    if package is None or package.origin is None:
        raise UserError("scikit-learn, which holds the digits, is not installed; run `make run`, which installs it")
    source = Path(package.origin).parent / "datasets" / "data" / DIGITS
    shutil.copyfile(source, folder / DIGITS)
    _verify(folder / DIGITS, DIGITS_SHA256, source, "reinstall scikit-learn")


def _pack_images(source: Path, folder: Path) -> None:
    with open_entries(source, scratch=folder) as entries:
        if not entries:
            raise UserError(f"params.yaml: data.path: {source} holds no files (hidden ones do not count); add images")
        pack(_chosen(entries, source), folder / IMAGES_TAR, folder / IMAGES_LIST)
    (folder / KEPT).write_text(source_sha256(source), encoding="ascii")


def _chosen(entries: list[Entry], source: Path) -> list[Entry]:
    """Return the images and the file of their labels; say what is left out.

    What `prepare` would refuse by the same names is refused before gigabytes are packed.
    """
    found, by_name = images(source, entries), {entry.name: entry for entry in entries}
    if not found:
        raise UserError(
            f"params.yaml: data.path: {source} holds {len(entries):,} files and no image ({kinds(entries)}); name a "
            "folder, zip or tar of PNG, JPEG, WebP or BMP files"
        )

    def content(name: str, most: int) -> bytes:
        with by_name[name].open() as file:
            return file.read(most)

    names = {entry.name for entry in found}
    listed = [name for name in by_name if name in names or PurePosixPath(name).name == LABELS]
    kept = {*names, layout(listed, content, f"params.yaml: data.path: {source}").labels_file}
    if others := [entry for entry in entries if entry.name not in kept]:
        print(f"fetch: {len(others):,} files are no images and were left out: {kinds(others)}", file=sys.stderr)
    return [entry for entry in entries if entry.name in kept]


def _download(published: Published, folder: Path) -> None:
    downloads = folder / "downloads"
    names = ", ".join(file.name for file in published.downloads)
    remedy = f"get {names} by other means and set params.yaml: data.path to the folder that holds them"
    for file in published.downloads:
        urls = [mirror + file.name for mirror in file.mirrors]
        download(urls, downloads / file.name, sha256=file.sha256, remedy=remedy)
    _take(published, downloads if len(published.downloads) > 1 else downloads / names, folder)
    shutil.rmtree(downloads)


def _take(published: Published, source: Path, folder: Path) -> None:
    """Copy each published file out of a folder or archive, unpack it if it is packed, and verify it."""
    missing = dict(published.files)
    with open_entries(source, scratch=folder) as entries:
        for entry in entries:
            # In some copies a dot stands for the dash: train-images.idx3-ubyte.
            name = PurePosixPath(entry.name).name.removesuffix(".gz").replace(".idx", "-idx")
            if name in missing:
                _unpack(entry, source, folder / name)
                remedy = "replace it by the original file, or set params.yaml: data.path to null to download it"
                _verify(folder / name, missing.pop(name), source / entry.name, remedy)
    if missing:
        pickled = any(PurePosixPath(entry.name).name == "data_batch_1" for entry in entries)
        remedy = (
            "this is the Python version, and pickles are not read: use cifar-10-binary.tar.gz" if pickled else "add it"
        )
        lacking = f"params.yaml: data.path: {source} lacks {', '.join(missing)}"
        raise UserError(f"{lacking}; {remedy}, or set data.path to null to download")


def _unpack(entry: Entry, source: Path, target: Path) -> None:
    with entry.open() as packed, target.open("wb") as copy, readable(source / entry.name):
        copy_bounded(unpacked(cast(BufferedReader, packed)), copy, LARGEST_FILE, entry.name)


def _verify(path: Path, sha256: str, source: Path, remedy: str) -> None:
    actual = file_digest(path)
    if actual != sha256:
        raise UserError(f"{source} is not the published file: expected sha256 {sha256}, got {actual}; {remedy}")
