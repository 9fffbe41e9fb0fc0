import errno
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from mlops.project.errors import UserError, disk_errors
from tests.project import ROOT


def failing(error: Exception, cause: Exception | None = None, database: Path | None = None) -> None:
    with disk_errors(Path("place"), database):
        raise error from cause


def full(*names: str) -> OSError:
    """Return the error of a full disk as a call with these names raises it."""
    return OSError(errno.ENOSPC, "No space left on device", *([names[0], None, *names[1:]] if names else []))


@pytest.mark.parametrize(
    ("error", "cause", "named"),
    [
        (full(), None, "place"),
        (full("/dev/shm/opened"), None, "/dev/shm/opened"),
        (full("read", "/dev/shm/written"), None, "/dev/shm/written"),
        (RuntimeError("of a library"), full("/dev/shm/opened"), "/dev/shm/opened"),
    ],
)
def test_a_full_disk_is_an_error_with_path_and_free_bytes(error: Exception, cause: Exception, named: str) -> None:
    with pytest.raises(UserError, match=rf"^the disk is full: {named} could not be written, [\d,]+ bytes are free"):
        failing(error, cause)


def test_a_full_disk_of_a_database_is_one() -> None:
    with sqlite3.connect(":memory:") as database:
        database.execute("pragma max_page_count = 2")
        database.execute("create table a (b)")
        with pytest.raises(sqlite3.OperationalError) as caught:
            database.execute("insert into a values (zeroblob(100000))")
    for named in (None, Path("its.db")):
        with pytest.raises(UserError, match=f"the disk is full: {named or 'place'} could"):
            failing(RuntimeError("of a library"), caught.value, named)


def test_other_errors_pass_and_those_that_name_a_remedy_stay() -> None:
    for error in (OSError(errno.EACCES, "denied"), ValueError("bad"), UserError("mine")):
        with pytest.raises(type(error), match=str(error.args[-1])):
            failing(error, full() if isinstance(error, UserError) else None)


@pytest.mark.parametrize(
    ("work", "named"),
    [
        ("print('a', file=open('/dev/full', 'w'), flush=True)", "the disk is full: "),
        ("import numpy; numpy.zeros(10**18)", "this machine has not the memory"),
        ("import torch; torch.zeros(10**15)", "this machine has not the memory"),
    ],
)
def test_a_command_without_room_ends_with_one_error(work: str, named: str) -> None:
    program = f"from mlops.project.errors import command_line\nwith command_line():\n    {work}"
    ended = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert ended.returncode == 1
    assert ended.stderr.startswith(f"error: {named}")
    assert "Traceback" not in ended.stderr
