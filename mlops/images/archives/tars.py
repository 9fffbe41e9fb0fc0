"""Tars: one member after the other up to two blocks of zeros, behind which there are only zeros."""

import posixpath
import sys
import tarfile
from collections.abc import Iterator
from functools import partial
from itertools import count
from pathlib import Path
from typing import IO, cast

from mlops.images.archives.entry import Entry, Link, check_count, refuse
from mlops.images.archives.links import beside
from mlops.project.errors import UserError

LONGEST_HEADER = 1 << 20
"""Bytes of all headers of a member: a long name has some hundreds, extended attributes have some thousands."""
MOST_GLOBALS = 1000
"""Values that hold for all members behind them, which `tarfile` copies for each."""
_WHOLE = (
    "get a fresh copy, or, if it is whole, as tars without an end or joined by `cat` can be, unpack it (tar -xif) and "
    "name the folder"
)


def tar_entries(source: Path, file: IO[bytes]) -> Iterator[Entry | Link]:
    """Yield the files and links of a plain tar, which can be opened as long as `file` is.

    `tarfile` takes any block that is no header for the end. So what follows the last member has to be the end: it is a
    UserError if that is missing or anything stands behind it, as after a cut or a damaged header.
    """
    headers = _Headers(file)
    tar, end = tarfile.TarFile(fileobj=cast(IO[bytes], headers)), 0
    for number in count(1):
        headers.left = LONGEST_HEADER
        if (info := tar.next()) is None:
            break
        tar.members.clear()  # type: ignore[attr-defined]  # all would take a kilobyte each
        check_count(source, number)
        if tar.offset <= end or info.size < 0 or len(tar.pax_headers) > MOST_GLOBALS:
            raise tarfile.ReadError(f"the header of {info.name!r} is damaged")
        end = tar.offset
        if info.issym():
            yield Link(info.name, beside(info.name, info.linkname))
        elif info.islnk():
            yield Link(info.name, posixpath.normpath(info.linkname))
        elif info.isreg():
            yield Entry(info.name, info.size, partial(_opened, tar, info.offset_data, info.size, info.sparse))
        elif not info.isdir():
            refuse(source, info.name, "is a device")
    headers.left = sys.maxsize
    _check_end(source, file, tar.offset)


class _Headers:
    """The file of a tar, of which `tarfile` may read `left` bytes more."""

    def __init__(self, file: IO[bytes]) -> None:
        self.seek, self.tell = file.seek, file.tell
        self.left = LONGEST_HEADER
        self._file = file

    def read(self, size: int) -> bytes:
        self.left -= size
        if self.left < 0:
            raise tarfile.ReadError(f"a header has more than {LONGEST_HEADER:,} bytes")
        return self._file.read(size)


def _opened(tar: tarfile.TarFile, offset: int, size: int, sparse: bytes | None) -> IO[bytes]:
    info = tarfile.TarInfo()
    info.offset_data, info.size, info.sparse = offset, size, sparse
    return cast(IO[bytes], tar.extractfile(info))  # None only for what is no regular file


def _check_end(source: Path, file: IO[bytes], end: int) -> None:
    file.seek(end)
    zeros = 0
    while piece := file.read(1 << 20):
        if piece.count(0) < len(piece):
            what = f"has a damaged header at byte {end:,}, or an end with more behind it"
            raise UserError(f"{source} {what}; {_WHOLE}")
        zeros += len(piece)
    if zeros < 2 * tarfile.BLOCKSIZE:
        raise UserError(f"{source} lacks the two blocks of zeros that end a tar, as if it was cut off; {_WHOLE}")
