"""Which files of an output are known to be of the pipeline: their sizes and times, noted when a stage wrote them."""

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

NOTES = Path(".checkpoints/written")
"""Beside the outputs: an experiment of DVC that runs in a copy of the project has its own."""
Stamp = tuple[int, int]
"""Size in bytes and time of the last change in nanoseconds."""


def unknown_files(output: Path) -> list[Path]:
    """Return the files of an output that are not as they were noted, sorted; links count as files."""
    known = load_note(_note(output))
    return [output / name for name, stamp in stamps(output).items() if known.get(name) != list(stamp)]


def noted_files(output: Path) -> set[Path]:
    """Return the files of an output that were noted, also those that have changed since."""
    return {output / name for name in load_note(_note(output))}


def note_written(output: Path, written: Path | None = None) -> None:
    """Note the files of an output as the pipeline's; `written` is where they are before they become the output."""
    content = {name: list(stamp) for name, stamp in stamps(written or output).items()}
    if load_note(_note(output)) != content:
        save_note(_note(output), content)


def save_note(path: Path, content: dict[str, Any]) -> None:
    """Write JSON with its checksum, which appears complete or not at all; the folder is made if it is missing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, json.dumps({"content": content, "sha256": _sha256(content)}))


def write_whole(path: Path, text: str) -> None:
    """Write a file that has its old content or all of the new one, also if the disk is full; a link is replaced."""
    partial = path.with_name(f"{path.name}.{os.getpid()}")
    try:
        partial.write_text(text, encoding="utf-8")
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def load_note(path: Path) -> dict[str, Any]:
    """Return what `save_note` wrote; nothing if that is missing or damaged."""
    with suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
        note = json.loads(path.read_bytes())
        if all(isinstance(value, list) for value in note.values()):
            return dict(note)  # sizes and times, noted before notes had checksums
        if note["sha256"] == _sha256(note["content"]):
            content: dict[str, Any] = note["content"]
            return content
    return {}


def _sha256(content: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def stamps(output: Path) -> dict[str, Stamp]:
    """Return the stamp of each file of an output by its path below it, `.` for an output that is a file; sorted."""
    return {
        path.relative_to(output).as_posix(): (status.st_size, status.st_mtime_ns)
        for path in sorted(_files(output))
        for status in [path.lstat()]
    }


def _files(output: Path) -> Iterator[Path]:
    if not output.is_dir():
        yield from [output] if os.path.lexists(output) else []
        return
    for folder, subfolders, files in os.walk(output):
        links = [name for name in subfolders if Path(folder, name).is_symlink()]
        yield from (Path(folder, name) for name in (*links, *files))


def _note(output: Path) -> Path:
    return NOTES / f"{quote(output.as_posix(), safe='')}.json"


def delete_written(folder: Path, *patterns: str) -> None:
    """Delete the files of a folder that match, in this order, and then folders that are empty, itself included.

    What else a person keeps in the folder stays, and so does the folder.
    """
    for path in (path for pattern in patterns for path in folder.glob(pattern)):
        path.unlink(missing_ok=True)
    emptied = {path.parent for pattern in patterns for path in [folder / pattern]}
    for place in sorted(emptied | {folder}, reverse=True):
        with suppress(OSError):  # not empty, or gone
            place.rmdir()
