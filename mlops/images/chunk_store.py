"""What `prepare` has decoded so far, on disk: growing arrays, and rows with the checksums of what counts in them."""

import hashlib
import math
import os
import shutil
import struct
import zlib
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Self

import numpy as np
import pandas as pd
import pyarrow as pa

from mlops.images.decoding import SPLITS, Decoded, Row
from mlops.project.prepared_data import Split, images_path

ROWS = "rows"
_SCHEMA = pa.schema({name: pa.int64() if name in ("width", "height") else pa.large_string() for name in Row._fields})
_FRAME = struct.Struct("<QI")  # length and checksum of the record batch behind it


class ChunkStore:
    """Arrays and rows in a folder, which grow by chunks; reopened, they continue behind the last complete chunk.

    The pixels of a chunk are written before its rows. A chunk counts if its rows have their checksum and its pixels
    have those that stand in the rows, whatever a killed process or a crashed machine left behind.
    """

    def __init__(self, folder: Path, shape: tuple[int, int, int]) -> None:
        self.folder = folder
        self.done = 0
        self._shape = shape

    def __enter__(self) -> Self:
        self.folder.mkdir(parents=True, exist_ok=True)
        counts, end = self._complete()
        self.done = counts.total()
        with ExitStack() as stack:
            paths = {split: images_path(self.folder, split) for split in SPLITS}
            self._files = {
                split: stack.enter_context(ImageFile(path, self._shape, keep=counts[split]))
                for split, path in paths.items()
            }
            self._rows = stack.enter_context((self.folder / ROWS).open("ab"))
            self._rows.truncate(end)
            self._open = stack.pop_all()
        return self

    def __exit__(self, *error: object) -> None:
        self._open.__exit__(*error)  # type: ignore[arg-type]  # what the with statement gives

    def add(self, chunk: Decoded) -> None:
        """Write a chunk behind the others."""
        for split, content in chunk.pixels.items():
            self._files[split].append(content)
        columns = [pa.array(column, kind) for column, kind in zip(chunk.columns, _SCHEMA.types, strict=True)]
        content = pa.record_batch(columns, schema=_SCHEMA).serialize().to_pybytes()
        self._rows.write(_FRAME.pack(len(content), zlib.crc32(content)) + content)
        self._rows.flush()
        self.done += len(chunk.columns[0])

    def table(self) -> pd.DataFrame:
        """Return all rows in their order, with the columns of `Row`."""
        with (self.folder / ROWS).open("rb") as file:
            batches = [batch for batch, _ in _batches(file)]
        table: pd.DataFrame = pa.Table.from_batches(batches, _SCHEMA).combine_chunks().to_pandas()
        return table

    def _complete(self) -> tuple[Counter[Split | None], int]:
        """Return how many rows are complete, by split (None: refused), and where the last of them ends."""
        counts, end, size = Counter[Split | None](), 0, math.prod(self._shape)
        with ExitStack() as stack:
            try:
                rows = stack.enter_context((self.folder / ROWS).open("rb"))
                images = {split: stack.enter_context(images_path(self.folder, split).open("rb")) for split in SPLITS}
                for file in images.values():
                    np.lib.format.read_magic(file)
                    np.lib.format.read_array_header_1_0(file)
            except (FileNotFoundError, ValueError):  # nothing yet, or a run that ended while it made them
                return counts, end
            for batch, behind in _batches(rows):
                splits: list[Split | None] = batch["split"].to_pylist()
                digests = zip(splits, batch["sha256"].to_pylist(), strict=True)
                kept = [(images[split], sha256) for split, sha256 in digests if split is not None]
                if any(hashlib.sha256(file.read(size)).hexdigest() != sha256 for file, sha256 in kept):
                    break
                counts.update(splits)
                end = behind
        return counts, end


def _batches(file: IO[bytes]) -> Iterator[tuple[pa.RecordBatch, int]]:
    """Yield the record batches of a file and where each of them ends, up to the first that is not whole."""
    while len(frame := file.read(_FRAME.size)) == _FRAME.size:
        length, checksum = _FRAME.unpack(frame)
        content = file.read(length)
        if not content or len(content) != length or zlib.crc32(content) != checksum:
            return  # a crashed machine may leave zeros, whose checksum is zero
        yield pa.ipc.read_record_batch(pa.py_buffer(content), _SCHEMA), file.tell()


class ImageFile:
    """An .npy file of images that grows, so that memory holds few of them.

    NumPy pads headers so that the first dimension can be corrected in place; until the block ends, it is 0. A full disk
    raises OSError here; in a memory map it would be a bus error. Whoever gave the file a second name, as DVC may have
    done, or made it read-only, keeps its bytes: then this class writes into a copy.
    """

    def __init__(self, path: Path, shape: tuple[int, int, int], *, keep: int = 0) -> None:
        self._shape = shape
        self._count = keep
        if path.exists() and (path.stat().st_nlink > 1 or not os.access(path, os.W_OK)):
            _part(path)
        self._file = path.open("r+b" if keep else "wb")
        self._write_header()
        self._file.seek(keep * math.prod(shape), os.SEEK_CUR)
        self._file.truncate()

    def append(self, pixels: bytes) -> None:
        """Write some images, bytes of (N, C, H, W); they are in the file when this returns."""
        self._file.write(pixels)
        self._file.flush()
        self._count += len(pixels) // math.prod(self._shape)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        with self._file:
            if kind is None:
                self._write_header(self._count)

    def _write_header(self, count: int = 0) -> None:
        self._file.seek(0)
        header = {"descr": "|u1", "fortran_order": False, "shape": (count, *self._shape)}
        np.lib.format.write_array_header_1_0(self._file, header)


def _part(path: Path) -> None:
    """Give a file bytes of its own, if it shares them with another name."""
    copy = path.with_suffix(".copy.npy")
    shutil.copyfile(path, copy)
    copy.replace(path)
