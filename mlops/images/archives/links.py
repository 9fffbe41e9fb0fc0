"""Links in archives: each is the file of the archive that it leads to."""

import posixpath
from collections.abc import Iterable, Iterator
from pathlib import Path

from mlops.images.archives.entry import Entry, Link, refuse
from mlops.images.archives.names import hidden

MOST_LINKS = 40
"""Links, one after the other, that are followed, as in Linux; so a circle ends."""


def beside(name: str, target: str) -> str:
    """Return where a link of a name leads to, from the archive's root."""
    return posixpath.normpath(posixpath.join(posixpath.dirname(name), target))


def followed(source: Path, entries: Iterable[Entry | Link]) -> Iterator[Entry]:
    """Yield all entries, each link as the file that it leads to through any number of links."""
    entries = list(entries)
    linked = any(isinstance(entry, Link) for entry in entries)
    places: dict[str, Entry | Link] = {posixpath.normpath(entry.name): entry for entry in entries} if linked else {}
    for entry in entries:
        end: Entry | Link | None = entry
        for _ in range(MOST_LINKS):
            if not isinstance(end, Link):
                break
            end = places.get(end.target)
        if isinstance(end, Entry):
            yield Entry(entry.name, end.size, end.open)
        elif not hidden(entry.name):
            refuse(source, entry.name, "is a link to no file of the archive", "replace it by its file")
