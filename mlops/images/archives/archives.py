"""Folders, zip and tar archives, read alike: a sorted list of named files, each checked before it is opened.

Nothing is unpacked under a name that an archive chose, but names become the `source` of each image, so they are
checked. Sizes are checked because a few kilobytes can unpack to petabytes.
"""

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from mlops.images.archives.decompression import seekable
from mlops.images.archives.entry import Entry, check_count, readable, refuse
from mlops.images.archives.folders import folder_entries
from mlops.images.archives.image_files import SUFFIXES
from mlops.images.archives.links import followed
from mlops.images.archives.names import hidden, safe_name
from mlops.images.archives.tars import tar_entries
from mlops.images.archives.zips import zip_entries
from mlops.project.errors import UserError

ALWAYS_ALLOWED = 1 << 30
LARGEST_RATIO = 100
"""An archive may hold a gibibyte, or 100 times its own size. Images hardly compress; bombs do."""


@contextmanager
def open_entries(source: Path, *, scratch: Path) -> Iterator[list[Entry]]:
    """Yield the files of a folder, zip or tar (plain, gzip, bzip2 or xz), usable until the block ends.

    They are sorted by name, without hidden ones and what is `IGNORED`. A link to a file of the source is that file.
    `scratch` is a folder with room for an unpacked copy of a compressed tar, which is deleted at the end. It is a
    UserError if the archive is damaged, incomplete, encrypted or none at all; a name is absolute, has `..` in it,
    occurs twice or is not UTF-8; an entry is any other link or a device; a size or a number is out of bounds; or a file
    is not readable, here or when an entry is read.
    """
    with ExitStack() as stack:
        with readable(source, "is damaged, or neither folder nor zip nor tar"):
            entries = _entries(source, scratch, stack)
        yield entries


def _entries(source: Path, scratch: Path, stack: ExitStack) -> list[Entry]:
    if source.is_dir():
        return _checked(source, folder_entries(source))
    if not source.is_file():
        raise UserError(f"{source} is neither a folder nor a regular file; name a folder, zip or tar of images")
    bound = max(ALWAYS_ALLOWED, LARGEST_RATIO * source.stat().st_size)
    if _is_zip(source):
        return _checked(source, followed(source, zip_entries(source, stack)), bound)
    if source.suffix.lower() in SUFFIXES:
        raise UserError(f"{source} is one image; name the folder that holds the images")
    file = stack.enter_context(seekable(source, scratch=scratch, bound=bound))
    return _checked(source, followed(source, tar_entries(source, file)), bound)


def _is_zip(source: Path) -> bool:
    with source.open("rb") as file:
        return file.read(2) == b"PK"


def _checked(source: Path, entries: Iterable[Entry], bound: float = float("inf")) -> list[Entry]:
    checked: dict[str, Entry] = {}
    left = bound
    for number, entry in enumerate(entries, 1):
        check_count(source, number)
        name = safe_name(source, entry.name)
        if name in checked:
            refuse(source, name, "occurs twice")
        if not hidden(name):
            checked[name] = entry.verified(source, name)
        left -= entry.size
        if left < 0:
            refuse(source, name, f"makes more than {bound:,} bytes in all, like an archive bomb")
    return [checked[name] for name in sorted(checked)]
