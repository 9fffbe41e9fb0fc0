"""What `fetch` wrote, read image by image: four formats, one kind of record."""

import math
import tarfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from stages.errors import StageError
from stages.pixels import RefusedError, decode
from stages.prepared import Split
from stages.published import (
    CIFAR_TEST,
    CIFAR_TRAIN,
    DIGITS,
    IMAGES_TAR,
    PUBLISHED,
    TEST_IMAGES,
    TEST_LABELS,
    TRAIN_IMAGES,
    TRAIN_LABELS,
)


@dataclass(frozen=True)
class Original:
    """One source image: an image or the reason why there is none.

    `split` is the official one or None, `class_name` None where nothing names a class.
    """

    source: str
    split: Split | None
    class_name: str | None
    image: Image.Image | None
    refused: str | None


@dataclass(frozen=True)
class Originals:
    """All source images in a fixed order; `classes` in label order, or None where folders name them.

    `official_train` is the number of images in a published training split, whose order is random; 0 for others.
    """

    total: int
    official_train: int
    classes: tuple[str, ...] | None
    images: Iterable[Original]


def read(raw: Path, name: str) -> Originals:
    """Return the images of a data set; each is decoded when the iterator reaches it.

    Args:
        raw: what `fetch` wrote.
        name: of the data set.

    Returns:
        All of them; they can be iterated over once.

    Raises:
        StageError: a file is missing or is not what `fetch` writes.
    """
    try:
        match name:
            case "digits":
                return _digits(raw / DIGITS)
            case "folder":
                return _folder(raw / IMAGES_TAR)
            case "cifar10":
                return _cifar(raw, PUBLISHED[name].classes)
            case _:
                return _idx(raw, PUBLISHED[name].classes)
    except (FileNotFoundError, ValueError, tarfile.TarError) as error:
        raise StageError(
            f"{raw} is not what fetch writes for {name} ({error}); run `dvc repro --force fetch`"
        ) from None


@dataclass(frozen=True)
class _Batch:
    """One published file: images (N, H, W) or (N, H, W, 3) and labels (N,)."""

    file: str
    split: Split | None
    images: NDArray[np.uint8]
    labels: NDArray[np.integer]


def _originals(batches: list[_Batch], classes: tuple[str, ...]) -> Originals:
    for batch in batches:
        if len(batch.images) != len(batch.labels):
            raise ValueError(f"{batch.file}: {len(batch.images)} images, but {len(batch.labels)} labels")
        if batch.labels.max(initial=0) >= len(classes):
            raise ValueError(f"{batch.file}: label {batch.labels.max()}, but {len(classes)} classes")
    images = (original for batch in batches for original in _labelled(batch, classes))
    official_train = sum(len(batch.images) for batch in batches if batch.split == "train")
    return Originals(sum(len(batch.images) for batch in batches), official_train, classes, images)


def _labelled(batch: _Batch, classes: tuple[str, ...]) -> Iterator[Original]:
    for number, (image, label) in enumerate(zip(batch.images, batch.labels, strict=True)):
        yield Original(f"{batch.file}#{number}", batch.split, classes[label], Image.fromarray(image), None)


def _digits(path: Path) -> Originals:
    """Rows of 64 intensities from 0 to 16 and a label."""
    rows = np.loadtxt(path, delimiter=",", dtype=np.int64, ndmin=2)
    images = np.rint(rows[:, :64] * 255 / 16).astype(np.uint8).reshape(-1, 8, 8)
    return _originals([_Batch(path.name, None, images, rows[:, 64])], tuple("0123456789"))


def _idx(raw: Path, classes: tuple[str, ...]) -> Originals:
    train = _Batch(TRAIN_IMAGES, "train", _idx_array(raw / TRAIN_IMAGES, 3), _idx_array(raw / TRAIN_LABELS, 1))
    test = _Batch(TEST_IMAGES, "test", _idx_array(raw / TEST_IMAGES, 3), _idx_array(raw / TEST_LABELS, 1))
    return _originals([train, test], classes)


def _idx_array(path: Path, dimensions: int) -> NDArray[np.uint8]:
    """Big-endian 32-bit words: 0x08 for uint8 and the number of dimensions, each dimension; then the bytes."""
    header_bytes = 4 * (1 + dimensions)
    with path.open("rb") as file:
        magic, *shape = (int(word) for word in np.frombuffer(file.read(header_bytes), ">u4"))
    if magic != 0x0800 + dimensions or path.stat().st_size != header_bytes + math.prod(shape):
        raise ValueError(f"{path.name} does not have the size that its header says")
    return np.asarray(np.memmap(path, np.uint8, "r", offset=header_bytes, shape=tuple(shape)))


def _cifar(raw: Path, classes: tuple[str, ...]) -> Originals:
    """Records of a label and 3 x 32 x 32 bytes."""
    record = np.dtype([("label", np.uint8), ("pixels", np.uint8, (3, 32, 32))])
    batches = []
    for file in (*CIFAR_TRAIN, CIFAR_TEST):
        records = np.asarray(np.memmap(raw / file, record, "r"))
        split: Split = "test" if file == CIFAR_TEST else "train"
        batches.append(_Batch(file, split, records["pixels"].transpose(0, 2, 3, 1), records["label"]))
    return _originals(batches, classes)


def _folder(path: Path) -> Originals:
    with tarfile.open(path, "r:") as tar:
        members = [(member.name, member.offset_data, member.size) for member in tar]
    return Originals(len(members), 0, None, _decoded(path, members))


def _decoded(path: Path, members: list[tuple[str, int, int]]) -> Iterator[Original]:
    places = layout([name for name, _, _ in members])
    official = any(split is not None for split, _ in places.values())
    with path.open("rb") as file:
        for name, offset, size in members:
            split, class_name = places[name]
            file.seek(offset)
            content = file.read(size)
            try:
                image = decode(content)
                if official and split is None:
                    raise RefusedError("outside of train/ and test/")
            except RefusedError as reason:
                yield Original(name, split, class_name, None, str(reason))
            else:
                yield Original(name, split, class_name, image, None)


HELD_OUT = ("test", "val", "valid", "validation")


def layout(names: list[str]) -> dict[str, tuple[Split | None, str | None]]:
    """Return the official split and the class of each file, as its folders tell them.

    As long as everything that lies in folders lies in one, that one says nothing and is skipped (archives often have
    such a root). If the folders are then `train` and one or more of `test`, `val`, `valid` and `validation`, they are
    the split, and what is held out is the test split. The next folder is the class.
    """
    folders = {name: PurePosixPath(name).parent.parts for name in names}
    depth = 0
    while len(here := {parts[depth] for parts in folders.values() if len(parts) > depth}) == 1:
        depth += 1
    official = "train" in here and {"train"} < here <= {"train", *HELD_OUT}
    places: dict[str, tuple[Split | None, str | None]] = {}
    for name, parts in folders.items():
        split: Split | None = None
        if official and len(parts) > depth:
            split = "train" if parts[depth] == "train" else "test"
        places[name] = (split, next(iter(parts[depth + official :]), None))
    return places
