"""Names of files and folders: which are taken, which are left out, and which are refused."""

import posixpath
import re
from pathlib import Path

from mlops.images.archives.entry import refuse

IGNORED = {
    *("__macosx", "icon\r"),
    *("thumbs.db", "ehthumbs.db", "desktop.ini", "$recycle.bin", "system volume information"),
    *("lost+found", "@eadir", "#recycle"),
}
"""What macOS, Windows, Linux and network drives leave in folders, in small letters; hidden files are ignored too."""
LONGEST_NAME = 1024
DEEPEST = 64
"""Letters of a name, and names of folders in it: enough for any person, and few enough to compare all of them."""
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")


def safe_name(source: Path, name: str) -> str:
    """Return the relative POSIX form of a name; a UserError if it leads elsewhere, or cannot be shown or compared."""
    parts = name.split("/")
    if name.startswith("/") or ".." in parts or name[1:2] == ":":
        refuse(source, name, "points outside of the archive")
    if len(name) > LONGEST_NAME or len(parts) > DEEPEST:
        shown = f"{name[:40]}..." if len(name) > 40 else name
        refuse(source, shown, f"has more than {LONGEST_NAME:,} letters in its name or {DEEPEST} folders around it")
    if _UNPRINTABLE.search(name) and not hidden(name):
        refuse(source, name, "has control characters in its name, or bytes that are not UTF-8")
    return posixpath.normpath(name)


def hidden(name: str) -> bool:
    """Return whether a file is left out, by its name or that of a folder around it."""
    return any(ignored(part) for part in posixpath.normpath(name).split("/"))


def ignored(part: str) -> bool:
    """Return whether files and folders of this name are left out."""
    return part.startswith(".") or part.lower() in IGNORED
