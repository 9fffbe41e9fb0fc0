"""The tar of images that `fetch` packs: listed once, then read member by member wherever somebody needs some."""

import os
import struct
import tarfile
from collections.abc import Generator, Iterator
from pathlib import Path, PurePosixPath

from stages.prepared import Split

CHUNK_BYTES = 4 << 20
"""Encoded images that are decoded at one go: a moment's work, whether they are many small ones or one photograph."""

Member = tuple[str, int, int]
"""Of a file in the tar: its name, and offset and size of its bytes. Named tuples would cost six times as much."""
Place = tuple[Split | None, str | None]
"""Official split and class."""
HELD_OUT = ("test", "val", "valid", "validation")
_BLOCK = tarfile.BLOCKSIZE
_HEADER = struct.Struct("100s24x11s21xc100x6s82xc166x")
"""Of POSIX.1-1988: name, size in octal digits, kind, magic, start of the name's prefix."""
_AHEAD = 128 * _BLOCK
"""Bytes that are read at once: headers of many small files, and no more than a part of a large one."""


def members(path: Path) -> Iterator[Member]:
    """Yield the files of an uncompressed tar in their order.

    `tarfile` takes ten times as long and keeps all that it has seen; it reads the headers that are not plain.

    Args:
        path: of the tar.

    Yields:
        One member at a time.
    """
    with tarfile.open(path, "r:") as tar, path.open("rb") as file:
        found = tar.next()
        while found is not None:
            yield found.name, found.offset_data, found.size
            tar.members = []  # type: ignore[attr-defined]  # where tarfile keeps all
            tar.offset = yield from _plain(file.fileno(), tar.offset)
            found = tar.next()


def _plain(file: int, offset: int) -> Generator[Member, None, int]:
    """Yield regular files with short ASCII names, as `stages.archives.pack` writes them; return where others begin."""
    ahead, start = b"", offset
    while True:
        place = offset - start
        if place + _BLOCK > len(ahead):
            ahead, start, place = os.pread(file, _AHEAD, offset), offset, 0
            if not ahead:
                return offset
            if len(ahead) < _BLOCK:
                raise tarfile.ReadError("unexpected end of data")
        name, size, kind, magic, prefix = _HEADER.unpack_from(ahead, place)
        if not (kind == b"0" and magic == b"ustar\0" and prefix == b"\0" and name.isascii()):
            return offset
        offset += _BLOCK
        length = int(size, 8)
        yield name.rstrip(b"\0").decode("ascii"), offset, length
        offset += -(-length // _BLOCK) * _BLOCK


def folder_of(name: str) -> str:
    """Return the folder of a member; empty where it is in none."""
    return name.rpartition("/")[0]


def chunked(found: Iterator[Member], largest: int) -> Iterator[list[Member]]:
    """Yield members in lists of at most `largest`, and of few bytes unless one alone has more."""
    chunk: list[Member] = []
    free = CHUNK_BYTES
    for member in found:
        _, _, size = member
        if chunk and (len(chunk) == largest or size > free):
            yield chunk
            chunk, free = [], CHUNK_BYTES
        chunk.append(member)
        free -= size
    if chunk:
        yield chunk


def layout(folders: set[str]) -> dict[str, Place]:
    """Return the official split and the class of the files in each folder, as the folders' names tell them.

    As long as everything that lies in folders lies in one, that one says nothing and is skipped (archives often have
    such a root). If the folders are then `train` and one or more of `test`, `val`, `valid` and `validation`, they are
    the split, and what is held out is the test split. The next folder is the class.

    Args:
        folders: of all files.

    Returns:
        A place for each of them.
    """
    parts_of = {folder: PurePosixPath(folder).parts for folder in folders}
    depth = 0
    while len(here := {parts[depth] for parts in parts_of.values() if len(parts) > depth}) == 1:
        depth += 1
    official = "train" in here and {"train"} < here <= {"train", *HELD_OUT}
    places: dict[str, Place] = {}
    for folder, parts in parts_of.items():
        split: Split | None = None
        if official and len(parts) > depth:
            split = "train" if parts[depth] == "train" else "test"
        places[folder] = (split, next(iter(parts[depth + official :]), None))
    return places
