"""A file system of its own that is filled in the moment before a process writes a certain file."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

SIZE = "512m"
PAGE = 4096
"""Bytes that a file takes at least."""
FILLER = "filler"
HOOK = """
import os, re, sys
event, pattern, number, free, disk, calls = os.environ["FULL_DISK"].splitlines()

def hook(name, arguments):
    if name != event or (name == "open" and not (arguments[2] or 0) & (os.O_WRONLY | os.O_RDWR)):
        return
    if isinstance(arguments[0], (str, os.PathLike)) and re.search(pattern, os.fspath(arguments[0])):
        of_all = os.open(calls, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(of_all, b".")
        if os.fstat(of_all).st_size == int(number):
            room = os.statvfs(disk)
            filler = os.open(os.path.join(disk, "filler"), os.O_WRONLY | os.O_CREAT)
            os.posix_fallocate(filler, 0, room.f_bavail * room.f_frsize - int(free))
            os.close(filler)
        os.close(of_all)

sys.addaudithook(hook)
"""
"""Python imports it at the start of each process."""


@dataclass(frozen=True)
class Moment:
    """Before the `number`th `event` of Python's audit with a path that has `pattern`; `free` bytes are left then."""

    pattern: str
    free: int = 0
    number: int = 1
    event: str = "open"


@dataclass(frozen=True)
class SmallDisk:
    """A file system that is mounted at a folder."""

    folder: Path

    def variables(self, moment: Moment, scratch: Path) -> dict[str, str]:
        """Return the environment of a process that fills the disk; `scratch`, new, is a folder on another one."""
        scratch.mkdir()
        (scratch / "sitecustomize.py").write_text(HOOK)
        facts = (moment.event, moment.pattern, moment.number, moment.free, self.folder, scratch / "calls")
        return {"FULL_DISK": "\n".join(map(str, facts)), "PYTHONPATH": str(scratch)}

    def make_room(self) -> bool:
        """Delete what fills the disk, and return whether it was there."""
        filler = self.folder / FILLER
        was_full = filler.exists()
        filler.unlink(missing_ok=True)
        return was_full


@contextmanager
def small_disk(folder: Path) -> Iterator[SmallDisk]:
    """Mount a file system in memory at a new folder while the block lasts."""
    folder.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", str(folder)], check=True)
    try:
        yield SmallDisk(folder)
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)
