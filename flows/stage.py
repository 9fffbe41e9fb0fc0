"""One stage as a Prefect task: `dvc repro` in a process group of its own, its output in the flow run's log."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO

from prefect import Task, get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.runtime import flow_run

GRACE = 20
"""Seconds that a stage has to end after it is asked to; Prefect gives a cancelled flow 30 and then kills it."""


class StageFailedError(RuntimeError):
    """A stage ended with an error; the message holds the stage's own."""


class StageDiedError(StageFailedError):
    """A stage was ended from outside or broke; it did not say what the user should mend."""


def stage_task(
    name: str, *, retries: int = 0, retry_on: type[Exception] = StageFailedError, force: bool = False
) -> Task[[], None]:
    """Return the task of a stage; its runs bear the stage's name. Prefect's cache is off: DVC says what is up to date.

    Args:
        name: of the stage in `dvc.yaml`.
        retries: how often a failed stage is tried again; for stages that go on from where they stopped.
        retry_on: which failures are worth another try.
        force: run the stage even if nothing that it depends on changed.

    Returns:
        A task without arguments.
    """

    def reproduce() -> None:
        options = ["--single-item", *(["--force"] if force else [])]
        run([sys.executable, "-m", "dvc", "repro", *options, name], name)

    reproduce.__doc__ = f"Bring the stage {name} up to date."
    options = task(
        name=name,
        task_run_name=name,
        cache_policy=NO_CACHE,
        retries=retries,
        retry_delay_seconds=5,
        retry_condition_fn=lambda _, __, state: isinstance(state.data, retry_on),
    )
    return options(reproduce)


def run(command: Sequence[str], name: str) -> list[str]:
    """Run a command for a stage, its output to the log; the whole process group ends with this task.

    Args:
        command: program and arguments; no shell sees them.
        name: of the stage, for the error.

    Returns:
        The lines that it printed.

    Raises:
        StageFailedError: the command ended with an error.
    """
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=os.environ | _identity() | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
        start_new_session=True,
    )
    try:
        assert process.stdout is not None
        with process.stdout as output:
            lines = _log(output)
        process.wait()
    finally:
        _end_group(process)
    if process.returncode:
        kind = StageFailedError if any(line.startswith("error: ") for line in lines) else StageDiedError
        raise kind(f"stage {name} failed (exit {process.returncode}): {own_error(lines)}")
    return lines


def _log(output: IO[str]) -> list[str]:
    """Log lines as they come and return them."""
    logger, lines = get_run_logger(), []
    for line in output:
        if line.strip():
            logger.info(line.rstrip())
            lines.append(line.rstrip())
    return lines


def own_error(lines: Sequence[str]) -> str:
    """Return what a failed stage said of itself: from its last `error:` line, or the last line of its traceback.

    DVC's own closing lines, which only say that the stage failed, are left out; where DVC itself is what failed, its
    line is all there is.
    """
    said = [line for line in lines if not line.startswith("ERROR: failed to reproduce")]
    for start in range(len(said) - 1, -1, -1):
        if said[start].startswith(("error: ", "ERROR: ")):
            return "\n".join(said[start:]).removeprefix("error: ")
    return said[-1] if said else "it said nothing"


def _identity() -> dict[str, str]:
    """Return what a stage tells MLflow about the flow run that started it."""
    return {"EQUILIBRIUM_FLOW_RUN_ID": flow_run.id or "", "EQUILIBRIUM_FLOW_RUN_NAME": flow_run.name or ""}


def _end_group(process: subprocess.Popen[str]) -> None:
    """End the process group, also where this task is cancelled; else the trainer would live on without DVC."""
    with suppress(ProcessLookupError):  # the group is empty
        for sign in (signal.SIGTERM, signal.SIGKILL):
            os.killpg(process.pid, sign)
            end = time.monotonic() + GRACE
            while time.monotonic() < end:
                process.poll()  # DVC, which ends at once, counts until it is waited for
                os.killpg(process.pid, 0)
                time.sleep(0.05)
