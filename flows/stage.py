"""One stage as a Prefect task: DVC in a process group of its own, its output in the flow run's log."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress

from prefect import State, Task, get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.runtime import flow_run
from prefect.states import Failed

from flows.environment import of_children
from flows.experiment.dvc import Dvc
from flows.failure import StageDiedError, StageFailedError, stage_error
from flows.output import PROGRESS, duration, log_output

RUNNING: list[subprocess.Popen[str]] = []
"""The process of the stage that runs now."""
GRACE = 20
"""Seconds between SIGTERM and SIGKILL; Prefect gives a cancelled flow 30 and then kills it."""


def stage_task(dvc: Dvc, name: str, *, retries: int = 0) -> Task[[], State[None] | None]:
    """Return the task of a stage; its runs bear its name. Prefect's cache is off: DVC decides what is up to date.

    Retries are for stages that resume, and only if one died.
    """

    def reproduce() -> State[None] | None:
        try:
            process = dvc.send("repro", "--single-item", name, **_variables())
            _logged(name, process, dvc.answer(), dvc.status, lasts=True)
        except StageDiedError:
            raise  # Prefect tries again after exceptions alone
        except StageFailedError as error:  # an exception would add a traceback of the task's own code
            return Failed(message=str(error), data=error)
        return None

    reproduce.__doc__ = f"Bring the stage {name} up to date."
    as_task = task(
        name=name,
        task_run_name=name,
        cache_policy=NO_CACHE,
        retries=retries,
        retry_delay_seconds=5,
        retry_condition_fn=lambda _, __, state: isinstance(state.data, StageDiedError),
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
        errors="replace",
        env=of_children() | _variables(),
        start_new_session=True,
    )
    assert process.stdout is not None
    with process.stdout as output:
        return _logged(name, process, output, process.wait, lasts=False)


def _logged(
    name: str, process: "subprocess.Popen[str]", output: Iterable[str], status: Callable[[], int], *, lasts: bool
) -> list[str]:
    """Log what a process prints for a stage, and return the lines.

    Unless it `lasts` for more after a status of 0, its process group is ended: also if this task is cancelled, for the
    training would go on without DVC.
    """
    RUNNING.append(process)
    started = time.monotonic()
    code = None
    try:
        PROGRESS.info("", extra={"stage": name, "kind": "started"})
        lines = log_output(output, name)
        code = status()
    finally:
        if code != 0 or not lasts:
            end_group(process)
            assert process.stdout is not None
            log_output(process.stdout, name)  # of a cancelled task: at which step its training stopped
        RUNNING.remove(process)
    seconds = time.monotonic() - started
    kind, how = ("failed", "failed after") if code else ("ended", "done in")
    get_run_logger().info(f"{name}: {how} {duration(seconds)}", extra={"stage": name, "kind": kind, "seconds": seconds})
    if code:
        raise stage_error(name, code, lines)
    return lines


@contextmanager
def following(prepared: str, extractor: str) -> Iterator[None]:
    """Score snapshots of the training as they come, and log them to MLflow, while the block lasts; it needs none."""
    command = [sys.executable, "-m", "mlops.tracking.sweeps.follow", prepared, extractor]
    process = subprocess.Popen(command, text=True, env=of_children() | _variables(), start_new_session=True)
    try:
        yield
    finally:
        end_group(process)


def _variables() -> dict[str, str]:
    """Return variables: a stage tags its MLflow run, shows progress and fits its tables."""
    return {
        "EQUILIBRIUM_FLOW_RUN_ID": flow_run.id or "",
        "EQUILIBRIUM_FLOW_RUN_NAME": flow_run.name or "",
        "EQUILIBRIUM_PROGRESS": "json",
        "COLUMNS": str(shutil.get_terminal_size().columns),
    }


def end_group(process: subprocess.Popen[str]) -> None:
    """End the process group: by SIGTERM, and what has not ended after `GRACE` by SIGKILL."""
    with suppress(ProcessLookupError):  # the group is empty
        for sign in (signal.SIGTERM, signal.SIGKILL):
            os.killpg(process.pid, sign)
            end = time.monotonic() + GRACE
            while time.monotonic() < end:
                process.poll()  # DVC ends at once, and stays in the group until it is waited for
                os.killpg(process.pid, 0)
                time.sleep(0.05)
