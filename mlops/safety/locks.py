"""A folder that one process at a time may lock."""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from mlops.project.errors import UserError

ORPHANED = 10.0
"""Seconds within which a stage has ended whose DVC or flow was killed; so long its lock is worth waiting for."""
POLL = 0.2


@contextmanager
def locked(folder: Path, work: str, remedy: str, wait: float = 0.0) -> Iterator[None]:
    """Lock a folder, made if it is missing, as long as the block or the process lasts.

    If another process holds the lock for `wait` seconds, the UserError names `work`, what that does (a verb and its
    object), and `remedy`, what happens to the work if that is ended.
    """
    end = time.monotonic() + wait
    while (lock := _taken(folder / "lock")) is None:
        if time.monotonic() >= end:
            owner = _owner(folder)
            raise UserError(
                f"process {owner} {work} already ({folder}); wait for it, or end it with `kill {owner}` and run again: "
                f"{remedy}"
            )
        time.sleep(POLL)
    with lock:
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        yield


def _taken(path: Path) -> IO[str] | None:
    """Return the file, opened and locked; None if another process has locked it."""
    while True:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = path.open("a+")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.close()
            return None
        if os.fstat(lock.fileno()).st_nlink:
            return lock
        lock.close()  # its process has deleted it before it unlocked it


def _owner(folder: Path) -> str:
    with suppress(FileNotFoundError):
        return (folder / "lock").read_text()
    return "that has just ended"
