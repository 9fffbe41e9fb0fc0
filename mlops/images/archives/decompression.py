"""Streams of bytes that may be compressed, damaged or endless."""

import bz2
import gzip
import io
import lzma
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import IO

from mlops.project.errors import UserError

GZIP, BZIP2, XZ = b"\x1f\x8b", b"BZh", b"\xfd7zXZ"
PIECE = 1 << 20
LARGEST_DICTIONARY = 256 << 20
"""Bytes of memory that unpacking xz may take: `xz -9` takes 65 MiB."""


def unpacked(file: io.BufferedReader) -> Iterator[bytes]:
    """Yield, in pieces, the content of a gzip, bzip2 or xz file, or the file itself if it is none of these.

    All streams that follow each other are read, each to its end, where its checksum is; behind them only zeros may
    stand. Whatever else is raised, by whatever library, it means damage.
    """
    start = file.peek(8)
    if start.startswith(GZIP):
        yield from iter(partial(gzip.GzipFile(fileobj=file).read, PIECE), b"")
    elif start.startswith(BZIP2):
        yield from _streams(file, bz2.BZ2Decompressor)
    elif start.startswith(XZ):
        yield from _streams(file, partial(lzma.LZMADecompressor, lzma.FORMAT_XZ, LARGEST_DICTIONARY))
    else:
        yield from iter(partial(file.read, PIECE), b"")


def _streams(
    file: IO[bytes], decompressor: Callable[[], bz2.BZ2Decompressor | lzma.LZMADecompressor]
) -> Iterator[bytes]:
    data = file.read(PIECE)
    while data:
        stream = decompressor()
        while not stream.eof:
            if stream.needs_input and not data and not (data := file.read(PIECE)):
                raise EOFError("it was cut off")
            if piece := stream.decompress(data, PIECE):
                yield piece
            data = b""
        data = stream.unused_data.lstrip(b"\0")
        while not data and (more := file.read(PIECE)):
            data = more.lstrip(b"\0")


def copy_bounded(pieces: Iterable[bytes], target: IO[bytes], bound: int, name: str) -> None:
    """Write all pieces; more than `bound` bytes are a UserError, which gives `name`."""
    left = bound
    for piece in pieces:
        left -= len(piece)
        if left < 0:
            raise UserError(f"{name} unpacks to more than {bound:,} bytes; it is refused as an archive bomb")
        target.write(piece)


@contextmanager
def seekable(source: Path, *, scratch: Path, bound: int) -> Iterator[IO[bytes]]:
    """Open the unpacked content for random access: in a compressed file, every step back would start it anew.

    The folder `scratch` has room for the unpacked copy of at most `bound` bytes, which is deleted at the end.
    """
    with source.open("rb") as file, tempfile.TemporaryFile(dir=scratch) as plain:
        if not file.peek(8).startswith((GZIP, BZIP2, XZ)):
            yield file
            return
        copy_bounded(unpacked(file), plain, bound, str(source))
        plain.seek(0)
        yield plain
