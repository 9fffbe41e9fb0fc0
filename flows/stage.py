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
"""Seconds between SIGTERM and SIGKILL; Prefect gives a cancelled flow 30 and then kills it."""


class StageFailedError(RuntimeError):
    """A stage ended with an error; the message contains the stage's own."""


class StageDiedError(StageFailedError):
    """A stage was killed or crashed: its output has no error that a user can correct."""


def stage_task(
    name: str, *, retries: int = 0, retry_on: type[Exception] = StageFailedError, force: bool = False
) -> Task[[], None]:
    """Return the task of a stage; its runs bear its name. Prefect's cache is off: DVC decides what is up to date.

    Retries are for stages that resume; `force` runs the stage even if nothing that it depends on changed.
    """

    def reproduce() -> None:
        options = ["--single-item", *(["--force"] if force else [])]
        run([sys.executable, "-m", "dvc", "repro", *options, name], name)

    reproduce.__doc__ = f"Bring the stage {name} up to date."
    as_task = task(
        name=name,
        task_run_name=name,
        cache_policy=NO_CACHE,
        retries=retries,
        retry_delay_seconds=5,
        retry_condition_fn=lambda _, __, state: isinstance(state.data, retry_on),
    )
    return as_task(reproduce)


def run(command: Sequence[str], name: str) -> list[str]:
    """Run a command for a stage, its output in the log, and return the lines that it printed.

    No shell reads the command. Its process group ends with this task; an error is a StageFailedError.
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
    """Return the error in a failed stage's output: from its last `error:` line, or the last line of its traceback.

    DVC's line that the stage failed is left out; if DVC itself failed, the error is DVC's.
    """
    own = [line for line in lines if not line.startswith("ERROR: failed to reproduce")]
    errors = [place for place, line in enumerate(own) if line.startswith(("error: ", "ERROR: "))]
    return "\n".join(own[errors[-1] if errors else -1 :]).removeprefix("error: ") or "it printed nothing"


def _identity() -> dict[str, str]:
    """Return the variables from which a stage tags its MLflow run with the flow run."""
    return {"EQUILIBRIUM_FLOW_RUN_ID": flow_run.id or "", "EQUILIBRIUM_FLOW_RUN_NAME": flow_run.name or ""}


def _end_group(process: subprocess.Popen[str]) -> None:
    """End the process group, also if this task is cancelled; else the training would go on without DVC."""
    with suppress(ProcessLookupError):  # the group is empty
        for sign in (signal.SIGTERM, signal.SIGKILL):
            os.killpg(process.pid, sign)
            end = time.monotonic() + GRACE
            while time.monotonic() < end:
                process.poll()  # DVC ends at once, and stays in the group until it is waited for
                os.killpg(process.pid, 0)
                time.sleep(0.05)
