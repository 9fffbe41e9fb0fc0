"""Errors that a user can correct, and how a process ends with one."""

import errno
import shutil
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

NO_MEMORY = "can't allocate memory"
"""What torch's RuntimeError says."""


class UserError(Exception):
    """Bad input, or something is missing; the message is what happened, where, and the remedy, without a traceback."""


@contextmanager
def disk_errors(path: Path, database: Path | None = None) -> Iterator[None]:
    """Turn the error of a full disk (or quota), when the block writes `path`, into a UserError; other errors pass.

    Libraries put errors of their own around it, as MLflow does around that of its `database`, which has no path.
    """
    try:
        yield
    except Exception as error:
        full = None if isinstance(error, UserError) else next(filter(_of_full_disk, _causes(error)), None)
        if full is None:
            raise
        if not isinstance(full, OSError):
            written = database or path
        else:
            written = Path(next((name for name in (full.filename2, full.filename) if isinstance(name, str)), path))
        place = next(place for place in (written.absolute(), *written.absolute().parents) if place.exists())
        raise UserError(
            f"the disk is full: {written} could not be written, {shutil.disk_usage(place).free:,} bytes are free "
            "there; free some space and run again (`dvc gc --workspace` drops old versions of data and models)"
        ) from None


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _of_full_disk(error: BaseException) -> bool:
    number = error.errno if isinstance(error, OSError) else None
    return number in (errno.ENOSPC, errno.EDQUOT) or getattr(error, "sqlite_errorname", "") == "SQLITE_FULL"


@contextmanager
def command_line() -> Iterator[None]:
    """Run the block as the work of a process: with `error:` and status 1 for a `UserError`, and without a traceback.

    A full disk is such an error, too. SIGTERM raises SystemExit in the block (status 143), so that what it opened is
    closed; Ctrl-C ends with status 130.
    """
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        with disk_errors(Path.cwd()):
            yield
    except UserError as error:
        sys.exit(f"error: {error}")
    except (MemoryError, RuntimeError) as error:
        if not isinstance(error, MemoryError) and NO_MEMORY not in str(error):
            raise
        sys.exit(
            f"error: this machine has not the memory that params.yaml asks for ({error}); make batches, networks or "
            "images smaller"
        )
    except KeyboardInterrupt:
        sys.exit(130)
