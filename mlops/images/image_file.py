"""An array of images that grows on disk."""

import math
import os
from pathlib import Path
from types import TracebackType

import numpy as np
from numpy.typing import NDArray


class ImageFile:
    """An .npy file of images that grows, so that memory holds some of them, however many come.

    NumPy pads headers so that the first dimension can be corrected in place; until the block ends, it says 0. A full
    disk shows as OSError here; in a memory map it would be a bus error.
    """

    def __init__(self, path: Path, shape: tuple[int, int, int], *, keep: int = 0) -> None:
        self._shape = shape
        self._count = keep
        self._file = path.open("r+b" if keep else "wb")
        self._write_header()
        self._file.seek(keep * math.prod(shape), os.SEEK_CUR)
        self._file.truncate()

    def append(self, images: NDArray[np.uint8]) -> None:
        """Write some images (N, C, H, W), contiguous; they are in the file when this returns."""
        self._file.write(images.data)
        self._file.flush()
        self._count += len(images)

    def __enter__(self) -> "ImageFile":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._file:
            if kind is None:
                self._write_header(self._count)

    def _write_header(self, count: int = 0) -> None:
        self._file.seek(0)
        header = {"descr": "|u1", "fortran_order": False, "shape": (count, *self._shape)}
        np.lib.format.write_array_header_1_0(self._file, header)
