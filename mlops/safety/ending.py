"""How a stage ends before its work is done: after a signal, or because what started it is gone.

Python calls no signal handler while a library computes or waits for another rank, so a thread watches beside it.
"""

import os
import select
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from time import sleep
from typing import NoReturn

import psutil  # type: ignore[import-untyped]  # has no stubs among the locked packages

PARENTS = "EQUILIBRIUM_PARENTS"
"""Environment variable: ids of the processes without which a stage ends, by commas; a flow names itself in it."""
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
GRACE = 12
"""Seconds that a process has to end after a signal: within them it finishes a step and writes a checkpoint."""
ORPHAN = 5
"""Seconds that it has after one of its parents has ended, which is noticed within one second."""
SHELLS = {"sh", "bash", "dash", "zsh", "fish", "ksh", "busybox"}
"""DVC runs a stage in the user's shell; some take the stage's place in the process table, some wait for it."""


class Stopped(SystemExit):
    """A training ends at a signal, after a checkpoint, with the shell's status of that signal: 128 and its number."""


class _Request:
    """The first signal that asked this process to end, and whether its work takes that up itself."""

    signal: int | None = None
    deferred = False


_request = _Request()


def end_in_time() -> None:
    """Let this process end soon after SIGTERM, SIGINT or SIGHUP, and after DVC or the flow that started it.

    A signal raises SystemExit with status 128 plus its number, unless `deferred` takes it up. One that is ignored, as
    `nohup` and background jobs have it, stays ignored. `GRACE` seconds later the process ends in any case. If one of
    those that started it is gone already, it ends at once.
    """
    if not all(map(_runs, parents := _parents())):
        os._exit(128 + signal.SIGTERM)
    for number in SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _receive)
    received, write = os.pipe()
    os.set_blocking(write, False)
    signal.set_wakeup_fd(write, warn_on_full_buffer=False)
    threading.Thread(target=_watch, args=(received, parents), daemon=True).start()


@contextmanager
def deferred() -> Iterator[None]:
    """Let signals only be noted in this block, whose work looks at `asked_to_stop` between two steps."""
    _request.deferred = True
    try:
        yield
    finally:
        _request.deferred = False


def asked_to_stop() -> bool:
    """Return whether a signal was noted within `deferred`."""
    return _request.signal is not None


def stop(step: int, steps: int, note: str = "") -> NoReturn:
    """Print at which step a training stops, and what goes on with it, and raise Stopped."""
    number = _request.signal or signal.SIGTERM
    with suppress(OSError):  # of a pipe that nobody reads any more
        print(f"stopped at step {step:,} of {steps:,}{note}; {_next_run()} goes on", flush=True)
    raise Stopped(128 + number)


def _next_run() -> str:
    if "PREFECT__FLOW_RUN_ID" in os.environ:
        return "the next run"
    return "make run" if os.environ.get("EQUILIBRIUM_FLOW_RUN_ID") else "dvc repro"


def _receive(number: int, _: object) -> None:
    """Note the first signal; later ones interrupt nothing, as what closes the work may have begun."""
    first, _request.signal = _request.signal is None, _request.signal or number
    if first and not _request.deferred:
        sys.exit(128 + number)


def _parents() -> list[psutil.Process | None]:
    """Return the processes without which this one ends, None for one that is gone; ranks inherit their ids.

    Of those above it that is DVC, or the launcher of ranks, and a shell in between; whoever types `python -m stages`
    may close the shell.
    """
    ids = [int(number) for number in os.environ.get(PARENTS, "").split(",") if number]
    if {"DVC_STAGE", "TORCHELASTIC_RUN_ID"} & os.environ.keys():
        for process in psutil.Process().parents():
            ids.append(process.pid)
            with suppress(psutil.Error):  # it has just ended
                if process.name() in SHELLS:
                    continue
            break
    os.environ[PARENTS] = ",".join(map(str, ids))
    return [_process(number) for number in ids]


def _process(number: int) -> psutil.Process | None:
    with suppress(psutil.NoSuchProcess):
        return psutil.Process(number)
    return None


def _watch(received: int, parents: Sequence[psutil.Process | None]) -> None:
    """End this process in time; `received` is a pipe with a byte for every signal."""
    number, seconds = signal.SIGTERM, ORPHAN
    while all(map(_runs, parents)):
        if select.select([received], [], [], 1.0)[0] and (byte := os.read(received, 1)[0]) in SIGNALS:
            number, seconds = signal.Signals(byte), GRACE
            break
    else:
        os.kill(os.getpid(), number)
    sleep(seconds)
    os._exit(128 + number)


def _runs(process: psutil.Process | None) -> bool:
    """Return whether a process runs; one that ended and that nobody waits for does not."""
    with suppress(psutil.NoSuchProcess):
        return process is not None and process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False
