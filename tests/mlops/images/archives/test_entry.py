import errno
import io
from functools import partial
from pathlib import Path

import pytest

from mlops.images.archives.entry import Entry, readable
from mlops.project.errors import UserError


def content(size: int, data: bytes) -> bytes:
    with Entry("a.png", size, partial(io.BytesIO, data)).verified(Path("x.zip"), "a.png").open() as file:
        return file.read(size) + file.read(1)


@pytest.mark.parametrize("size", [0, 1, 8_192, 100_000])
def test_the_bytes_of_an_entry_are_as_many_as_its_size(size: int) -> None:
    assert content(size, bytes(size)) == bytes(size)
    for other in {size - 1, size + 1} - {-1}:
        with pytest.raises(UserError, match=r"x\.zip: the entry 'a\.png'"):
            content(size, bytes(other))


@pytest.mark.parametrize(
    "error",
    [
        *(ValueError("bad\nbytes"), OverflowError(), RecursionError(), MemoryError(), IndexError(), AssertionError()),
        *(OSError(22, "Invalid argument"), FileNotFoundError(2, "No such file", "y")),
    ],
    ids=repr,
)
def test_whatever_is_raised_is_one_line_that_names_the_place(error: Exception) -> None:
    with pytest.raises(UserError, match=r"^some/file cannot be read: \S.*; get a fresh copy$"), readable("some/file"):
        raise error


def test_a_locked_file_is_named() -> None:
    with pytest.raises(UserError, match="inner"), readable(Path("outer")):
        raise PermissionError(13, "Permission denied", "inner")


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "full"), UserError("mine"), KeyboardInterrupt()], ids=repr)
def test_a_full_disk_and_what_a_user_reads_or_does_pass(error: BaseException) -> None:
    with pytest.raises(type(error)) as caught, readable("place"):
        raise error
    assert caught.value is error
