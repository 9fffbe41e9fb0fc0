"""What a person's images are, as one digest: if it changes, `fetch` packs them anew."""

import hashlib
import json
from pathlib import Path
from tempfile import TemporaryDirectory

from mlops.images.archives.archives import open_entries
from mlops.images.archives.entry import Entry, readable
from mlops.project.identity import file_digest, located, project_root
from mlops.safety.written_files import load_note, save_note

NOTE = Path(".checkpoints/source.json")
"""The last digest, and of which sizes and times it is: images that have not changed are not read again."""
KEPT = "source.sha256"
"""In the folder of `fetch`: the digest of the images in it, for machines that have not the originals."""


def recorded_sha256(path: str | None, raw: Path) -> str:
    """Return the digest of the images at `data.path`; if they are not on this machine, that of those in `raw`."""
    if path is not None and (source := located(path, "params.yaml: data.path")).exists():
        return source_sha256(source)
    kept = raw / KEPT
    return kept.read_text(encoding="ascii") if kept.is_file() else "missing"


def source_sha256(source: Path) -> str:
    """Return sha256 over names and contents of the files in a folder, or of an archive.

    What `open_entries` refuses, and a file that cannot be read, is a UserError.
    """
    stamp = hashlib.sha256()
    if source.is_dir():
        with TemporaryDirectory() as scratch, open_entries(source, scratch=Path(scratch)) as entries:
            for entry in entries:
                stamp.update(json.dumps([entry.name, entry.size, (source / entry.name).stat().st_mtime_ns]).encode())
            return _noted(source, stamp.hexdigest(), entries)
    status = source.stat()
    stamp.update(json.dumps([status.st_size, status.st_mtime_ns]).encode())
    return _noted(source, stamp.hexdigest(), None)


def _noted(source: Path, stamp: str, entries: list[Entry] | None) -> str:
    """Return the digest that was noted under the same stamp; otherwise read the files and note it."""
    facts, note = {"source": str(source), "stamp": stamp}, project_root() / NOTE
    before = load_note(note)
    if before.items() >= facts.items():
        return str(before["sha256"])
    with readable(source):
        sha256 = file_digest(source) if entries is None else _folder_digest(source, entries)
    save_note(note, facts | {"sha256": sha256})
    return sha256


def _folder_digest(source: Path, entries: list[Entry]) -> str:
    files = {entry.name: file_digest(source / entry.name) for entry in entries}
    return hashlib.sha256(json.dumps(files).encode()).hexdigest()
