"""Which files of a folder or archive are images: those whose names or first bytes say so."""

from collections import Counter
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from mlops.images.archives.entry import Entry, refuse

SUFFIXES = (".png", ".jpg", ".jpeg", ".jfif", ".webp", ".bmp")
"""Of files that are taken for images, whatever they hold."""
UNREAD = (".gif", ".tif", ".tiff", ".heic", ".heif", ".avif")
"""Of images that are not read; `prepare` refuses them by name, for somebody may miss them."""
SIGNATURES = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff")
RIFF, WEBP = b"RIFF", b"WEBP"
"""Between them is a length of four bytes."""
LARGEST_FILE = 256 << 20
"""Bytes of the largest file that is packed: far beyond an image, well below the memory of a laptop."""
SHOWN = 5


def images(source: Path, entries: Iterable[Entry]) -> list[Entry]:
    """Return the files that are images; one of more than `LARGEST_FILE` bytes is a UserError."""
    found = [entry for entry in entries if _is_image(entry)]
    for entry in found:
        if entry.size > LARGEST_FILE:
            refuse(source, entry.name, f"has {entry.size:,} bytes, and the bound is {LARGEST_FILE:,}")
    return found


def kinds(entries: Iterable[Entry]) -> str:
    """Return how many files have which suffix, most first: "1,200 .txt, 3 without suffix"."""
    counts = Counter(PurePosixPath(entry.name).suffix.lower() or "without suffix" for entry in entries)
    more = sum(count for _, count in counts.most_common()[SHOWN:])
    named = [f"{count:,} {suffix}" for suffix, count in counts.most_common(SHOWN)]
    return ", ".join(named + [f"{more:,} others"] * (more > 0))


def _is_image(entry: Entry) -> bool:
    if entry.name.lower().endswith(SUFFIXES + UNREAD):
        return True
    with entry.open() as file:
        start = file.read(12)
    return start.startswith(SIGNATURES) or (start.startswith(RIFF) and start[8:] == WEBP)
