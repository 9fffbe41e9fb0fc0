"""A stage's output folder appears complete or not at all."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mlops.project.errors import UserError, disk_errors


@contextmanager
def new_folder(target: Path) -> Iterator[Path]:
    """Yield an empty folder to fill; it becomes `target` if the block ends without an error, else it is deleted.

    It is a sibling of `target` (`.NAME.partial`), so becoming `target` is one rename. What a killed run left there is
    deleted first. `target` itself is never deleted: it may be a path that a user typed. If it exists and is not an
    empty folder, or the disk is full, that is a UserError.
    """
    if target.exists() and not (target.is_dir() and not any(target.iterdir())):
        raise UserError(f"{target} exists and is not empty; remove it (`dvc repro` does so by itself) or name another")
    partial = target.absolute().with_name(f".{target.absolute().name}.partial")
    with disk_errors(target):
        shutil.rmtree(partial, ignore_errors=True)
        try:
            partial.mkdir(parents=True)
            yield partial
            partial.replace(target)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
