"""Errors that a user can correct, and how a process ends with one."""

import errno
import shutil
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class UserError(Exception):
    """Bad input, or something is missing; the message is what happened, where, and the remedy, without a traceback."""


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turn the error of a full disk (or quota), when the block writes `path`, into a UserError; other errors pass."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        place = next(place for place in (path.absolute(), *path.absolute().parents) if place.exists())
        raise UserError(
            f"the disk is full: {error.filename or path} could not be written, {shutil.disk_usage(place).free:,} bytes "
            "are free there; free some space and run again (`dvc gc --workspace` drops old versions of data and models)"
        ) from None


@contextmanager
def command_line() -> Iterator[None]:
    """Run the block as the work of a process: with `error:` and status 1 for a `UserError`, and without a traceback.

    SIGTERM raises SystemExit in the block (status 143), so that what it opened is closed; Ctrl-C ends with status 130.
    """
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        yield
    except UserError as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
