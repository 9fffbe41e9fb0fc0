"""The end of a process before any of its changes in a folder, whatever function makes the change."""

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

CHANGES = {"open", "os.rename", "os.remove", "os.truncate", "os.mkdir", "os.rmdir", "os.link"}
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


class Dead(BaseException):
    """Raised instead of a change."""


class Death:
    """Ends what this process does before its n-th change in a folder, and lets it change nothing from then on."""

    def __init__(self) -> None:
        self.folder, self.left, self.watches = "", 0, False

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self.folder or event not in CHANGES or (event == "open" and not arguments[2] & WRITES):
            return
        if any(isinstance(each, str | os.PathLike) and os.fspath(each).startswith(self.folder) for each in arguments):
            self.left -= 1
            if self.left < 0:
                raise Dead

    def ends(self, work: Callable[[], object], folder: Path, changes: int) -> bool:
        """Return whether the work ended before its end; the file that it has locked is free then."""
        if not self.watches:
            sys.addaudithook(self)  # for good: Python removes none
            self.watches = True
        self.folder, self.left = str(folder), changes
        try:
            work()
        except Dead:
            return True
        finally:
            self.folder = ""
        return False


DEATH = Death()
