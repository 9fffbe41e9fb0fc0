"""One training or evaluation at a time on a GPU, on the CPU as many as it has slots, whoever on this machine starts it.

A slot is a file that the kernel unlocks when its holder dies, in whatever way. A stage and its ranks share the lock, so
the slot is free once the last of them is gone; who takes it must have it alone for a moment.
"""

import fcntl
import json
import os
import stat
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import gettempdir
from typing import IO, NamedTuple

from mlops.project.errors import UserError

CPU_SLOTS = "EQUILIBRIUM_SLOTS"
"""Environment variable: how many trainings and evaluations may run on the CPU at once; by default all cores work."""
HELD = "EQUILIBRIUM_HELD_SLOTS"
"""Environment variable: the slots of the launcher from which ranks inherit it."""
POLL, REMINDER = 0.5, 60.0
"""Seconds between two tries, and between two lines about the wait."""


class Slot(NamedTuple):
    """A GPU, or a place on the CPU: how it is called, and the name of its file."""

    name: str
    file: str


def cpu_slots(cores: int) -> list[Slot]:
    """Return the slots of the CPU, of which a stage takes one: as many as the variable tells, or as there are cores."""
    number = os.environ.get(CPU_SLOTS) or str(cores)
    if not (number.isascii() and number.isdigit() and 1 <= int(number) <= 1000):
        raise UserError(
            f"the environment variable {CPU_SLOTS} is {number!r}; set it to a number from 1 to 1000, or unset it"
        )
    return [Slot(f"CPU slot {slot}", f"cpu-{slot}") for slot in range(int(number))]


@contextmanager
def occupied(stage: str, choices: Sequence[Sequence[Slot]]) -> Iterator[None]:
    """Hold slots as long as the block or the process lasts: one of each of the choices; wait until it is free.

    `choices` are alternatives each; all processes take them in the order of their files, so none waits in a circle.
    """
    with ExitStack() as held:
        folder = os.open(_folder(), os.O_RDONLY)
        held.callback(os.close, folder)
        fcntl.flock(folder, fcntl.LOCK_SH)  # systemd-tmpfiles deletes old files, but in no folder that is locked
        ordered = sorted(choices, key=lambda slots: slots[0].file)
        os.environ[HELD] = os.pathsep.join([held.enter_context(_one_of(stage, slots)) for slots in ordered])
        yield


@contextmanager
def shared() -> Iterator[None]:
    """Hold the slots of this rank's launcher as well; if that is gone and another process has them, end."""
    with ExitStack() as held:
        for name in filter(None, os.environ.get(HELD, "").split(os.pathsep)):
            file = held.enter_context((_folder() / name).open("a+"))
            if not _locked(file, fcntl.LOCK_SH):
                sys.exit(f"the slot {name} was lost")
        yield


@contextmanager
def _one_of(stage: str, slots: Sequence[Slot]) -> Iterator[str]:
    folder, reminded = _folder(), -REMINDER
    while (taken := _free_one(folder, slots)) is None:
        if time.monotonic() - reminded >= REMINDER:
            reminded = time.monotonic()
            wanted = slots[0].name if len(slots) == 1 else f"one of {len(slots)} CPU slots"
            print(f"{stage}: waiting for {wanted}, held by {_holders(folder, slots)}", flush=True)
        time.sleep(POLL)
    name, file = taken
    with file:
        file.truncate(0)
        holder = {"process": os.getpid(), "stage": stage, "project": str(Path.cwd()), "since": time.time()}
        file.write(json.dumps(holder))
        file.flush()
        yield name


def _free_one(folder: Path, slots: Sequence[Slot]) -> tuple[str, IO[str]] | None:
    for slot in slots:
        file = (folder / slot.file).open("a+")
        # The kernel may give it to another process between the two; and a cleaner of old files may have deleted it.
        if _locked(file, fcntl.LOCK_EX) and _locked(file, fcntl.LOCK_SH) and os.fstat(file.fileno()).st_nlink:
            return slot.file, file
        file.close()
    return None


def _locked(file: IO[str], how: int) -> bool:
    try:
        fcntl.flock(file, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _holders(folder: Path, slots: Sequence[Slot]) -> str:
    return " and ".join(filter(None, (_holder(folder / slot.file) for slot in slots))) or "a process that begins"


def _holder(path: Path) -> str:
    """Return which process took a slot last, for what and when; nothing as long as that is not written."""
    try:
        holder = json.loads(path.read_text(encoding="utf-8"))
        since = time.strftime("%Y-%m-%d %H:%M", time.localtime(holder["since"]))
        return f"process {holder['process']} ({holder['stage']} in {holder['project']}, since {since})"
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def _folder() -> Path:
    """Return where the slots of this user are, outside of all projects; others may not write there."""
    folder = Path(gettempdir(), f"equilibrium-{os.getuid()}")
    folder.mkdir(mode=0o700, exist_ok=True)
    status = folder.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid() or status.st_mode & 0o077:
        raise UserError(
            f"{folder} must be a folder that only you can open; move it away, or set TMPDIR to another place"
        )
    return folder
