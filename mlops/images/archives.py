"""Folders, zip and tar archives, read alike: a sorted list of named files, each checked before it is opened.

Nothing is unpacked under a name that an archive chose, but names become the `source` of each image, so they are
checked. Sizes are checked because a few kilobytes can unpack to petabytes.
"""

import os
import posixpath
import re
import stat
import tarfile
import zipfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO, NamedTuple, NoReturn, cast

from mlops.images.decompression import readable, seekable
from mlops.project.errors import UserError

LARGEST_FILE = 256 << 20
"""Bytes of the largest file that is read: far beyond an image, well below the memory of a laptop."""

ALWAYS_ALLOWED = 1 << 30
LARGEST_RATIO = 100
"""An archive may hold a gibibyte, or 100 times its own size. Images hardly compress; bombs do."""

LONGEST_LINK = 4096
"""Bytes of what a link in a zip leads to."""
MOST_LINKS = 40
"""Links, one after the other, that are followed, as in Linux; so a circle ends."""

IGNORED = {
    *("__macosx", "icon\r"),
    *("thumbs.db", "ehthumbs.db", "desktop.ini", "$recycle.bin", "system volume information"),
    *("lost+found", "@eadir", "#recycle"),
}
"""What macOS, Windows, Linux and network drives leave in folders, in small letters; hidden files are ignored too."""

_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")


@dataclass(frozen=True)
class Entry:
    """One file: its relative POSIX name, its size in bytes, and how to open it."""

    name: str
    size: int
    open: Callable[[], IO[bytes]]


class _Link(NamedTuple):
    """An entry of an archive that is another one; `target` is its name, counted from the archive's root."""

    name: str
    target: str


@contextmanager
def open_entries(source: Path, *, scratch: Path) -> Iterator[list[Entry]]:
    """Yield the files of a folder, zip or tar (plain, gzip, bzip2 or xz), usable until the block ends.

    They are sorted by name, without hidden ones and what is `IGNORED`. A link to a file of the source is that file.
    `scratch` is a folder with room for an unpacked copy of a compressed tar, which is deleted at the end. It is a
    UserError if the archive is damaged, encrypted or none at all; a name is absolute, has `..` in it, occurs twice or
    is not UTF-8; an entry is any other link or a device; a size is out of bounds; or a file is not readable.
    """
    with readable(source):
        if source.is_dir():
            yield _checked(source, _folder_entries(source))
        elif _magic(source).startswith(b"PK"):
            with zipfile.ZipFile(source) as archive:
                yield _checked(source, _followed(source, _zip_entries(source, archive)), bound=_bound(source))
        else:
            bound = _bound(source)
            with seekable(source, scratch=scratch, bound=bound) as file, tarfile.open(fileobj=file, mode="r:") as tar:
                yield _checked(source, _followed(source, _tar_entries(source, tar)), bound=bound)


def _folder_entries(source: Path) -> Iterator[Entry]:
    root = source.resolve()
    for folder, subfolders, files in os.walk(source, onerror=_raise):
        subfolders[:] = [name for name in subfolders if not _ignored(name)]
        for name in subfolders:
            if Path(folder, name).is_symlink():
                raise UserError(f"{Path(folder, name)} is a link to a folder; replace it by the folder (`cp -rL`)")
        for name in files:
            path = Path(folder, name)
            if _ignored(name):
                continue
            if path.is_symlink() and not Path(os.path.realpath(path)).is_relative_to(root):
                raise UserError(f"{path} is a link that leads out of {source}; replace it by its file (`cp -L`)")
            if not path.is_file():
                raise UserError(f"{path} is a broken link or no regular file; remove it")
            yield Entry(path.relative_to(source).as_posix(), path.stat().st_size, partial(_opened, path))


def _opened(path: Path) -> IO[bytes]:
    return path.open("rb")


def _zip_entries(source: Path, archive: zipfile.ZipFile) -> Iterator[Entry | _Link]:
    for info in archive.infolist():
        name = info.filename.replace("\\", "/")
        if info.flag_bits & 1:
            _refuse(source, info.filename, "is encrypted")
        if stat.S_ISLNK(info.external_attr >> 16):
            with archive.open(info) as file:
                yield _Link(name, _beside(name, os.fsdecode(file.read(LONGEST_LINK))))
        elif not info.is_dir():
            yield Entry(name, info.file_size, partial(archive.open, info))


def _tar_entries(source: Path, tar: tarfile.TarFile) -> Iterator[Entry | _Link]:
    for info in tar:
        if info.issym():
            yield _Link(info.name, _beside(info.name, info.linkname))
        elif info.islnk():
            yield _Link(info.name, posixpath.normpath(info.linkname))
        elif info.isreg():
            yield Entry(info.name, info.size, partial(_extracted, tar, info))
        elif not info.isdir():
            _refuse(source, info.name, "is a device")


def _beside(name: str, target: str) -> str:
    return posixpath.normpath(posixpath.join(posixpath.dirname(name), target))


def _followed(source: Path, entries: Iterable[Entry | _Link]) -> Iterator[Entry]:
    """Yield all entries, each link as the file that it leads to through any number of links."""
    entries = list(entries)
    places: dict[str, Entry | _Link] = {posixpath.normpath(entry.name): entry for entry in entries}
    for entry in entries:
        end: Entry | _Link | None = entry
        for _ in range(MOST_LINKS):
            if not isinstance(end, _Link):
                break
            end = places.get(end.target)
        if isinstance(end, Entry):
            yield Entry(entry.name, end.size, end.open)
        elif not _hidden(posixpath.normpath(entry.name)):
            _refuse(source, entry.name, "is a link to no file of the archive", "replace it by its file")


def _extracted(tar: tarfile.TarFile, info: tarfile.TarInfo) -> IO[bytes]:
    return cast(IO[bytes], tar.extractfile(info))  # None only for what is no regular file


def _checked(source: Path, entries: Iterable[Entry], *, bound: float = float("inf")) -> list[Entry]:
    checked: dict[str, Entry] = {}
    for entry in entries:
        name = _safe_name(source, entry.name)
        if entry.size > LARGEST_FILE:
            _refuse(source, name, f"has {entry.size:,} bytes, and the bound is {LARGEST_FILE:,}")
        if name in checked:
            _refuse(source, name, "occurs twice")
        if not _hidden(name):
            checked[name] = Entry(name, entry.size, entry.open)
        bound -= entry.size
        if bound < 0:
            _refuse(source, name, f"makes more than {_bound(source):,} bytes in all, like an archive bomb")
    return [checked[name] for name in sorted(checked)]


def _safe_name(source: Path, name: str) -> str:
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or name[1:2] == ":":
        _refuse(source, name, "points outside of the archive")
    if _UNPRINTABLE.search(name) and not _hidden(path.as_posix()):
        _refuse(source, name, "has control characters in its name, or bytes that are not UTF-8")
    return path.as_posix()


def _refuse(source: Path, name: str, reason: str, remedy: str = "remove or rename it") -> NoReturn:
    raise UserError(f"{source}: the entry {name!r} {reason}; {remedy}")


def _raise(error: OSError) -> NoReturn:
    raise error


def _hidden(name: str) -> bool:
    return any(_ignored(part) for part in name.split("/"))


def _ignored(part: str) -> bool:
    return part.startswith(".") or part.lower() in IGNORED


def _bound(source: Path) -> int:
    return max(ALWAYS_ALLOWED, LARGEST_RATIO * source.stat().st_size)


def _magic(source: Path) -> bytes:
    with source.open("rb") as file:
        return file.read(8)
