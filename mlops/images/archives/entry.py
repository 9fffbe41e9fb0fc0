"""One file of a folder or archive: its bytes are read to their end, or an error names it."""

import errno
import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, Any, NamedTuple, NoReturn, Self

from mlops.project.errors import UserError

MOST_FILES = 2_000_000
"""Files of a source, folders of an archive included; 250,000 take 20 seconds and 350 MiB."""
PIECE = 1 << 14
"""Bytes that are unpacked at once: bzip2 makes 20,000 times as many of some."""


class Link(NamedTuple):
    """An entry of an archive that is another one; `target` is its name, counted from the archive's root."""

    name: str
    target: str


@dataclass(frozen=True, slots=True)
class Entry:
    """One file: its relative POSIX name, its size in bytes, and how to open it."""

    name: str
    size: int
    open: Callable[[], IO[bytes]]

    def verified(self, source: Path, name: str) -> Self:
        """Return the entry under another name; what is wrong with its bytes is a UserError that names `source`."""
        return type(self)(name, self.size, partial(_content, source, self))


class _Content(io.RawIOBase):
    """The bytes of an entry, exactly as many as its size says."""

    def __init__(self, place: str, entry: Entry, file: IO[bytes]) -> None:
        super().__init__()
        self._place, self._left, self._file = place, entry.size, file

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        with readable(self._place):
            piece = self._file.read(min(len(buffer), PIECE))
            self._left -= len(piece)
            if self._left < 0 or (self._left and not piece):
                raise EOFError("it has another size than expected")
        buffer[: len(piece)] = piece
        return len(piece)

    def close(self) -> None:
        self._file.close()
        super().close()


def _content(source: Path, entry: Entry) -> IO[bytes]:
    place = f"{source}: the entry {entry.name!r}"
    with readable(place):
        return io.BufferedReader(_Content(place, entry, entry.open()))


@contextmanager
def readable(place: Path | str, what: str = "cannot be read") -> Iterator[None]:
    """Turn whatever reading in the block raises into a UserError that names `place`.

    Libraries raise almost anything when bytes are bad, so types are not listed. The error of a full disk passes.
    """
    try:
        yield
    except UserError:
        raise
    except PermissionError as error:
        raise UserError(f"{error.filename or place} is not readable for you; change its permissions") from None
    except Exception as error:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise UserError(f"{place} {what}: {reason(error)}; get a fresh copy") from error


def reason(error: Exception) -> str:
    """Return what an error of a library says, on one line, or its type if it says nothing."""
    return " ".join(str(error).split()) or type(error).__name__


def check_count(source: Path, count: int) -> None:
    """Raise a UserError if a source has more than `MOST_FILES` files."""
    if count > MOST_FILES:
        raise UserError(f"{source} has more than {MOST_FILES:,} files, which is the bound; name a part of it")


def refuse(source: Path, name: str, why: str, remedy: str = "remove or rename it") -> NoReturn:
    """Raise a UserError for one entry of a source."""
    raise UserError(f"{source}: the entry {name!r} {why}; {remedy}")
