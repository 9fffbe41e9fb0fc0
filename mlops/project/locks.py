"""A folder that one process at a time may lock."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mlops.project.errors import UserError


@contextmanager
def locked(folder: Path, work: str, remedy: str) -> Iterator[None]:
    """Lock a folder, made if it is missing, as long as the block or the process lasts.

    If another process has locked it, the UserError names `work`, what that does (a verb and its object), and `remedy`,
    what happens to the work if that is ended.
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
