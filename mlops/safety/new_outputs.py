"""What a stage or command writes appears complete or not at all, and takes the place of nobody's files."""

import fcntl
import inspect
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from tempfile import mkdtemp
from typing import Annotated

from mlops.project.errors import UserError, disk_errors
from mlops.safety.written_files import NOTES, note_written, stamps, unknown_files

Output = Annotated[Path, "output"]
"""The path of what a stage writes, in its signature."""


def count_outputs(stage: Callable[..., None]) -> int:
    """Return how many of a stage's paths, the last ones, are outputs."""
    return sum(argument.annotation == Output for argument in inspect.signature(stage).parameters.values())


@contextmanager
def new_outputs(targets: Sequence[Path]) -> Iterator[list[Path]]:
    """Yield a path for each output of a stage, of the same name, to write a file or folder at.

    If the block ends without an error, each becomes its target by one rename, and is noted as written (see
    `unknown_files`). Until then it is in a new folder beside its target (`.NAME.*.partial`), which is deleted in any
    case; what killed runs left there is deleted first. A target that exists is replaced if all its files are noted as
    written; otherwise, or if the disk is full, that is a UserError.
    """
    for target in targets:
        _require(not unknown_files(target), target)
    with disk_errors(Path.cwd()), _partials(targets) as partials:
        yield partials
        for partial, target in zip(partials, targets, strict=True):
            if partial.exists():
                _require(not unknown_files(target), target)
                note_written(target, partial)
                if partial.is_dir():
                    shutil.rmtree(target, ignore_errors=True)
                partial.replace(target)


@contextmanager
def new_folder(target: Path) -> Iterator[Path]:
    """Yield a folder to fill, which becomes `target`, new or empty, at the end; see `new_outputs`."""
    _require(not stamps(target), target)
    with disk_errors(target), _partials([target]) as [folder]:
        folder.mkdir()
        yield folder
        folder.replace(target)


def _require(may_be_replaced: bool, target: Path) -> None:
    if not may_be_replaced:
        raise UserError(f"{target} exists, with files that are not the project's; move them, or name another place")


@contextmanager
def _partials(targets: Sequence[Path]) -> Iterator[list[Path]]:
    """Make a folder beside each target; a mark names it, locked as long as this process works in it."""
    _delete_left()
    with ExitStack() as stack:
        partials = []
        for target in targets:
            target.parent.mkdir(parents=True, exist_ok=True)
            folder = Path(mkdtemp(prefix=f".{target.name}.", suffix=".partial", dir=target.parent.absolute()))
            partials.append(folder / target.name)
            NOTES.mkdir(parents=True, exist_ok=True)
            stack.callback(_delete, folder, NOTES / folder.name)
            mark = stack.enter_context((NOTES / folder.name).open("w", encoding="utf-8"))
            fcntl.flock(mark, fcntl.LOCK_EX)
            mark.write(str(folder))
            mark.flush()
        yield partials


def _delete_left() -> None:
    """Delete the folders of processes that were killed: nobody holds the locks of their marks."""
    for path in NOTES.glob("*.partial"):
        with suppress(BlockingIOError, FileNotFoundError), path.open(encoding="utf-8") as mark:
            fcntl.flock(mark, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _delete(Path(mark.read() or "."), path)


def _delete(folder: Path, mark: Path) -> None:
    if folder.name == mark.name:  # the mark of a process that was killed before it named its folder is empty
        shutil.rmtree(folder, ignore_errors=True)
    mark.unlink(missing_ok=True)
