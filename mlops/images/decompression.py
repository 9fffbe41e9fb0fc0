"""Streams of bytes that may be compressed, damaged, unreadable or endless."""

import bz2
import errno
import gzip
import lzma
import struct
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, cast

from mlops.images.layout.layout import SUFFIXES
from mlops.project.errors import UserError

_UNPACKERS: dict[bytes, Callable[[IO[bytes]], IO[bytes]]] = {
    b"\x1f\x8b": lambda file: cast(IO[bytes], gzip.GzipFile(fileobj=file)),
    b"BZh": bz2.open,
    b"\xfd7zXZ": lzma.open,
}
_DAMAGE = (
    zipfile.BadZipFile,
    tarfile.TarError,
    gzip.BadGzipFile,
    zlib.error,
    lzma.LZMAError,
    EOFError,
    NotImplementedError,
    UnicodeDecodeError,
    struct.error,
)


@contextmanager
def readable(source: Path) -> Iterator[None]:
    """Turn what damaged or unreadable files raise in the block into a UserError that names `source`."""
    try:
        yield
    except _DAMAGE as error:
        if source.suffix.lower() in SUFFIXES:
            raise UserError(f"{source} is one image; name the folder that holds the images") from None
        raise UserError(f"{source} is damaged, or neither folder nor zip nor tar: {error}; get a fresh copy") from None
    except PermissionError as error:
        raise UserError(f"{error.filename or source} is not readable for you; change its permissions") from None
    except OSError as error:
        if error.errno not in (None, errno.EINVAL):  # EINVAL is of a seek to where a damaged header points
            raise
        raise UserError(f"{source} is damaged: {error}; get a fresh copy") from None  # of bz2 and tarfile


def unpacked(file: IO[bytes]) -> IO[bytes]:
    """Return the content of a gzip, bzip2 or xz file, or the file itself if it is none of these."""
    start = file.read(8)
    file.seek(0)
    return next((unpack(file) for magic, unpack in _UNPACKERS.items() if start.startswith(magic)), file)


def copy_bounded(source: IO[bytes], target: IO[bytes], bound: int, name: str) -> None:
    """Copy from the current position to the end; more than `bound` bytes are a UserError, which gives `name`."""
    left = bound
    while chunk := source.read(min(1 << 20, left + 1)):
        left -= len(chunk)
        if left < 0:
            raise UserError(f"{name} unpacks to more than {bound:,} bytes; it is refused as an archive bomb")
        target.write(chunk)


@contextmanager
def seekable(source: Path, *, scratch: Path, bound: int) -> Iterator[IO[bytes]]:
    """Open the unpacked content for random access: in a compressed file, every step back would start it anew.

    The folder `scratch` has room for the unpacked copy of at most `bound` bytes, which is deleted at the end.
    """
    with source.open("rb") as file:
        content = unpacked(file)
        if content is file:
            yield file
            return
        with tempfile.TemporaryFile(dir=scratch) as plain:
            copy_bounded(content, plain, bound, str(source))
            plain.seek(0)
            yield plain
