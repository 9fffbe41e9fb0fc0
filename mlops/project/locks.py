"""A folder that one process at a time may hold."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mlops.project.errors import UserError


@contextmanager
def locked(folder: Path, work: str, remedy: str) -> Iterator[None]:
    """Hold a folder, made where it is missing: one process at a time; a killed one lets go of it, an orphan does not.

    Args:
        folder: to hold.
        work: what its holder does, for others to read.
        remedy: what happens to the work when the holder is ended.

    Yields:
        Nothing.

    Raises:
        UserError: another process holds it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            owner = lock.read()
            raise UserError(
                f"process {owner} {work} already ({folder}); wait for it, or end it with `kill {owner}` and run again: "
                f"{remedy}"
            ) from None
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        yield
