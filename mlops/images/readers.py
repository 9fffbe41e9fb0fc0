"""What `fetch` wrote, read chunk by chunk: four formats, one kind of record."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mlops.images.image_tar import COLUMNS, IMAGES_LIST, IMAGES_TAR, Member, cut, listed
from mlops.images.layout.layout import Place, layout
from mlops.images.memory import Reserve, reserved
from mlops.images.originals import Chunk, Loaded, Original, Originals
from mlops.images.pixels import RefusedError, decode
from mlops.images.published import CIFAR_TEST, CIFAR_TRAIN, DIGITS, IDX_FILES, PUBLISHED
from mlops.project.errors import UserError
from mlops.project.prepared_data import Split

LARGEST_IMAGE_FILE = 64 << 20
"""Bytes, of which Pillow reads some formats one by one; an uncompressed image of 22 million pixels has as many."""


def read(raw: Path, name: str) -> Originals:
    """Return the images that `fetch` wrote, to be decoded chunk by chunk.

    A file that is missing or is not what `fetch` writes is a UserError, whatever the library that reads it raises.
    """
    try:
        match name:
            case "digits":
                return _digits(raw / DIGITS)
            case "folder":
                return _folder(raw / IMAGES_TAR, raw / IMAGES_LIST)
            case "cifar10":
                return _cifar(raw, PUBLISHED[name].classes)
            case _:
                return _idx(raw, PUBLISHED[name].classes)
    except UserError:
        raise
    except Exception as error:
        why = " ".join(str(error).split()) or type(error).__name__
        remedy = "run `dvc repro --force fetch`"
        raise UserError(f"{raw} is not what fetch writes for {name} ({why}); {remedy}") from error


@dataclass(frozen=True)
class Arrays:
    """A published file or a part of it: images (N, H, W) or (N, H, W, 3) and labels (N,), from number `first` on."""

    file: str
    split: Split | None
    images: NDArray[np.uint8]
    labels: NDArray[np.integer]
    classes: tuple[str, ...]
    first: int = 0

    def __len__(self) -> int:
        return len(self.images)

    def originals(self) -> Iterator[Original]:
        """See `Chunk`."""
        for number, (image, label) in enumerate(zip(self.images, self.labels, strict=True), self.first):
            yield Original(f"{self.file}#{number}", self.split, self.classes[label], partial(_of_array, image))

    def cut(self, first: int, largest: int) -> Iterator[Chunk]:
        """Yield the images from `first` on in chunks."""
        for start in range(first, len(self.images), largest):
            part = slice(start, start + largest)
            yield Arrays(self.file, self.split, self.images[part], self.labels[part], self.classes, start)


def _of_array(image: NDArray[np.uint8], _: Reserve) -> Loaded:
    return Image.fromarray(image), None


def _published(files: list[Arrays]) -> Originals:
    for file in files:
        if len(file.images) != len(file.labels):
            raise ValueError(f"{file.file}: {len(file.images)} images, but {len(file.labels)} labels")
        if file.labels.max(initial=0) >= len(file.classes):
            raise ValueError(f"{file.file}: label {file.labels.max()}, but {len(file.classes)} classes")

    def chunks(first: int, largest: int) -> Iterator[Chunk]:
        for file in files:
            yield from file.cut(min(first, len(file.images)), largest)
            first = max(0, first - len(file.images))

    official_train = sum(len(file.images) for file in files if file.split == "train")
    total, raw_bytes = sum(len(file) for file in files), sum(file.images.nbytes for file in files)
    return Originals(total, raw_bytes, official_train, files[0].classes, chunks)


def _digits(path: Path) -> Originals:
    """Rows of 64 intensities from 0 to 16 and a label."""
    rows = np.loadtxt(path, delimiter=",", dtype=np.int64, ndmin=2)
    images = np.rint(rows[:, :64] * 255 / 16).astype(np.uint8).reshape(-1, 8, 8)
    return _published([Arrays(path.name, None, images, rows[:, 64], tuple("0123456789"))])


def _idx(raw: Path, classes: tuple[str, ...]) -> Originals:
    def arrays(split: Split, images: str, labels: str) -> Arrays:
        return Arrays(images, split, _idx_array(raw / images, 3), _idx_array(raw / labels, 1), classes)

    return _published([arrays(*names) for names in IDX_FILES])


def _idx_array(path: Path, dimensions: int) -> NDArray[np.uint8]:
    """Big-endian 32-bit words: 0x08 for uint8 and the number of dimensions, each dimension; then the bytes."""
    header_bytes = 4 * (1 + dimensions)
    with path.open("rb") as file:
        magic, *shape = (int(word) for word in np.frombuffer(file.read(header_bytes), ">u4"))
    if magic != 0x0800 + dimensions or path.stat().st_size != header_bytes + math.prod(shape):
        raise ValueError(f"{path.name} has not the size of its header")
    return np.asarray(np.memmap(path, np.uint8, "r", offset=header_bytes, shape=tuple(shape)))


def _cifar(raw: Path, classes: tuple[str, ...]) -> Originals:
    """Records of a label and 3 x 32 x 32 bytes, as many in each file."""
    record = np.dtype([("label", np.uint8), ("pixels", np.uint8, (3, 32, 32))])
    files = []
    for file in (*CIFAR_TRAIN, CIFAR_TEST):
        records = np.asarray(np.memmap(raw / file, record, "r"))
        split: Split = "test" if file == CIFAR_TEST else "train"
        files.append(Arrays(file, split, records["pixels"].transpose(0, 2, 3, 1), records["label"], classes))
    if len({len(file) for file in files}) > 1:
        raise ValueError("its files have different numbers of images")
    return _published(files)


@dataclass(frozen=True)
class Packed:
    """Consecutive members of `images.tar` and their places."""

    path: Path
    members: list[Member]
    places: list[Place]

    def __len__(self) -> int:
        return len(self.members)

    def originals(self) -> Iterator[Original]:
        """See `Chunk`."""
        with self.path.open("rb") as file:
            for member, (split, class_name, misplaced) in zip(self.members, self.places, strict=True):
                yield Original(member[0], split, class_name, partial(_of_file, file, member, misplaced))


def _of_file(file: IO[bytes], member: Member, misplaced: str | None, reserve: Reserve) -> Loaded:
    _, offset, size = member
    if size > LARGEST_IMAGE_FILE:
        raise RefusedError(f"{size:,} bytes, and an image may have {LARGEST_IMAGE_FILE:,}")
    with reserved("files") as read:
        read(size)
        file.seek(offset)
        if len(content := file.read(size)) != size:
            raise UserError(f"{IMAGES_TAR} was cut off while it was read; run `dvc repro --force fetch`")
        loaded = decode(content, reserve)
    if misplaced is not None:
        raise RefusedError(misplaced)
    return loaded


def _folder(tar: Path, index: Path) -> Originals:
    raw_bytes = tar.stat().st_size
    table = listed(index, raw_bytes)
    names = table["name"].to_pylist()

    def content(name: str, most: int) -> bytes:
        offset, size = (table[column][names.index(name)].as_py() for column in COLUMNS[1:])
        with tar.open("rb") as file:
            file.seek(offset)
            return file.read(min(size, most))

    where = layout(names, content, "data.path")
    if where.labels_file is not None:
        table = table.filter([name != where.labels_file for name in names])

    def chunks(first: int, largest: int) -> Iterator[Chunk]:
        left = table.slice(first)
        for part in cut((size for some in left["size"].chunks for size in some.to_pylist()), largest):
            columns = left.slice(part.start, part.stop - part.start).to_pydict()
            members = list(zip(*columns.values(), strict=True))
            yield Packed(tar, members, [where.place(name) for name in columns["name"]])

    return Originals(table.num_rows, raw_bytes, 0, where.classes, chunks, where.unlabelled)
