"""DVC in a process of its own, which runs one command after another: each start of DVC would cost a second."""

import fcntl
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from flows.environment import of_children
from flows.failure import BUSY, StageFailedError, own_error

LOOP = """
import json, os, sys, threading, time
def watch():
    while os.getppid() == int(os.environ["EQUILIBRIUM_PARENTS"]):
        time.sleep(0.5)
    time.sleep(6)  # within which its stage has ended
    os._exit(143)
threading.Thread(target=watch, daemon=True).start()
commands = os.fdopen(os.dup(0))
os.dup2(os.open(os.devnull, os.O_RDONLY), 0)  # stages are not to read commands
if os.path.exists("params.yaml"):
    from pathlib import Path
    from mlops.project.errors import command_line
    from mlops.project.yaml_file import read_yaml
    with command_line():
        read_yaml(Path("params.yaml"))
from dvc.cli import main
for line in commands:
    command, variables = json.loads(line)
    os.environ.update(variables)
    status = main(command)
    sys.stderr.flush()
    print(f"\\x1d{status}", flush=True)
"""
"""DVC reads params.yaml before any stage: a pipe for ever, aliases of aliases for minutes. So it is looked at first."""
END = "\x1d"
"""Stands before the exit status of a command, behind all that it printed."""
ORPHANED = 10.0
"""Seconds within which a stage has ended whose flow was killed."""
USED = Path(".dvc/tmp/rwlock")
"""Who reads and writes which file; DVC takes the lock of `rwlock.lock`, reads it, and writes it in place."""
FIRST, STATUS = ("repro", "--single-item", "code"), ("status", "--json", "dvc.yaml")
"""The stage `code` checks what can be; then DVC says which stages are not up to date."""


class Dvc:
    """Takes commands of DVC, in the working directory of its first one, and answers them in their order.

    Its process is the first of its group, and ends when this one does: at once, or 7 seconds later if it has work.
    """

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None
        self._status: int | None = None

    def start(self) -> "subprocess.Popen[str]":
        """Return the process that takes the next command, started if there is none."""
        if self._process is None or self._process.poll() is not None:
            self.close()
            self._process = subprocess.Popen(
                [sys.executable, "-c", LOOP, "dvc"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                env=of_children(),
                start_new_session=True,
            )
        return self._process

    def send(self, *command: str, **variables: str) -> "subprocess.Popen[str]":
        """Let DVC run a command, with more variables, after those that it was sent before; return its process."""
        mend_lock()
        process = self.start()
        assert process.stdin is not None
        with suppress(BrokenPipeError):  # it was killed just now, as its answer will show
            process.stdin.write(json.dumps([command, variables]) + "\n")
            process.stdin.flush()
        return process

    def answer(self) -> Iterator[str]:
        """Yield what DVC and its stage print, line by line, until the next command has ended or the process has."""
        self._status = None
        assert self._process is not None
        assert self._process.stdout is not None
        for line in self._process.stdout:
            text, ended, status = line.partition(END)
            if text:
                yield text
            if ended:
                self._status = int(status)
                return

    def status(self) -> int:
        """Return the exit status of the command that was answered last, or of the process that has ended before."""
        assert self._process is not None
        return self._process.wait() if self._status is None else self._status

    def close(self) -> None:
        """End the process, if it runs."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            for pipe in (self._process.stdin, self._process.stdout):
                assert pipe is not None
                with suppress(BrokenPipeError):
                    pipe.close()
            self._process = None


def start_check() -> Dvc:
    """Let DVC run its first stage and look what is not up to date.

    It answers `checked`; whoever imports Prefect meanwhile waits a second less.
    """
    dvc = Dvc()
    for command in (FIRST, STATUS):
        dvc.send(*command)
    return dvc


def checked(dvc: Dvc) -> set[str]:
    """Return the stages that are not up to date; if DVC refused the project, or the stage, end with an error.

    What a killed flow had started holds DVC's locks for some seconds; so long DVC is asked again.
    """
    end = time.monotonic() + ORPHANED
    while True:
        for _ in (FIRST, STATUS):
            lines = _lines(dvc)
            if dvc.status():
                break
        else:
            return {*json.loads(lines[-1])}
        dvc.close()
        if BUSY not in "\n".join(lines) or time.monotonic() > end:
            sys.exit(f"error: {own_error(lines)}")
        time.sleep(0.5)
        for command in (FIRST, STATUS):
            dvc.send(*command)


def _lines(dvc: Dvc) -> list[str]:
    return [line.rstrip("\n") for line in dvc.answer() if line.strip()]


def outdated(dvc: Dvc) -> set[str]:
    """Return the stages whose parameters, inputs or outputs are not those of `dvc.lock`; errors are StageFailedError.

    One that reads what these will make is not among them.
    """
    dvc.send(*STATUS)
    lines = _lines(dvc)
    if dvc.status():
        raise StageFailedError(own_error(lines))
    return {*json.loads(lines[-1])}


def mend_lock() -> None:
    """Delete DVC's list of what its processes use, if one was killed while it wrote it: DVC would refuse to start."""
    with suppress(FileNotFoundError), Path(f"{USED}.lock").open("r+b") as guard, suppress(BlockingIOError):
        fcntl.flock(guard, fcntl.LOCK_EX | fcntl.LOCK_NB)  # not that of a process that is writing it now
        try:
            json.loads(USED.read_bytes())
        except ValueError:
            USED.unlink()
