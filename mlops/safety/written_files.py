"""Which files of an output are known to be of the pipeline: their sizes and times, noted when a stage wrote them."""

import json
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote

NOTES = Path(".checkpoints/written")
"""Beside the outputs: an experiment of DVC that runs in a copy of the project has its own."""
Stamp = tuple[int, int]
"""Size in bytes and time of the last change in nanoseconds."""


def unknown_files(output: Path) -> list[Path]:
    """Return the files of an output that are not as they were noted, sorted; links count as files."""
    note = _note(output)
    known = json.loads(note.read_text(encoding="utf-8")) if note.is_file() else {}
    return [output / name for name, stamp in stamps(output).items() if known.get(name) != list(stamp)]


def note_written(output: Path, written: Path | None = None) -> None:
    """Note the files of an output as the pipeline's; `written` is where they are before they become the output."""
    content = json.dumps(stamps(written or output))
    note = _note(output)
    if note.is_file() and note.read_text(encoding="utf-8") == content:
        return
    note.parent.mkdir(parents=True, exist_ok=True)
    partial = note.with_name(f"{note.name}.{os.getpid()}")
    partial.write_text(content, encoding="utf-8")
    partial.replace(note)


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
