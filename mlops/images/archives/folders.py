"""The files of a folder: regular ones, and links to others in it."""

import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import IO, NoReturn

from mlops.images.archives.entry import Entry
from mlops.images.archives.names import ignored
from mlops.project.errors import UserError


def folder_entries(source: Path) -> Iterator[Entry]:
    """Yield the files of a folder without hidden ones.

    A link that leads out of the folder or to a folder, a broken one, a device, a pipe or a socket is a UserError; none
    of them is opened.
    """
    root = source.resolve()
    for folder, subfolders, files in os.walk(source, onerror=_raise):
        subfolders[:] = [name for name in subfolders if not ignored(name)]
        for name in subfolders:
            if Path(folder, name).is_symlink():
                raise UserError(f"{Path(folder, name)} is a link to a folder; replace it by the folder (`cp -rL`)")
        for name in files:
            path = Path(folder, name)
            if ignored(name):
                continue
            if path.is_symlink() and not Path(os.path.realpath(path)).is_relative_to(root):
                raise UserError(f"{path} is a link that leads out of {source}; replace it by its file (`cp -L`)")
            if not path.is_file():
                raise UserError(f"{path} is a broken link or no regular file; remove it")
            yield Entry(path.relative_to(source).as_posix(), path.stat().st_size, partial(_opened, path))


def _opened(path: Path) -> IO[bytes]:
    return path.open("rb")


def _raise(error: OSError) -> NoReturn:
    raise error
