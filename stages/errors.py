"""The one error that a user can do something about."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class StageError(Exception):
    """Bad input or a missing need: the message names what, where, and the remedy; it is shown without a traceback."""


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turn a full disk (or quota) met while writing below `path` into a StageError; other errors pass.

    Args:
        path: what the block writes.

    Yields:
        Nothing.

    Raises:
        StageError: no space is left; the message says how to free some.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise StageError(
            f"the disk is full: {path} could not be written; free some space and run again "
            f"(`dvc gc --workspace` drops old versions of data and models)"
        ) from None
