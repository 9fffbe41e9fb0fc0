"""One stage as a Prefect task: `dvc repro` in a process group of its own, its output in the flow run's log."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

from prefect import State, Task, get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.runtime import flow_run
from prefect.states import Failed

from flows.environment import mend_lock, of_children
from flows.failure import StageDiedError, StageFailedError, stage_error
from flows.output import PROGRESS, duration, log_output

RUNNING: list[subprocess.Popen[str]] = []
"""The process of the stage that runs now."""
GRACE = 20
"""Seconds between SIGTERM and SIGKILL; Prefect gives a cancelled flow 30 and then kills it."""


def stage_task(name: str, *, retries: int = 0, force: bool = False) -> Task[[], State[None] | None]:
    """Return the task of a stage; its runs bear its name. Prefect's cache is off: DVC decides what is up to date.

    Retries are for stages that resume, and only if one died; `force` runs the stage even if nothing that it depends on
    changed.
    """

    def reproduce() -> State[None] | None:
        mend_lock()
        options = ["--single-item", *(["--force"] if force else [])]
        try:
            run([sys.executable, "-m", "dvc", "repro", *options, name], name)
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
    started = time.monotonic()
    PROGRESS.info("", extra={"stage": name, "kind": "started"})
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        env=of_children() | _variables(),
        start_new_session=True,
    )
    RUNNING.append(process)
    assert process.stdout is not None
    with process.stdout as output:
        try:
            lines = log_output(output, name)
            process.wait()
        finally:
            end_group(process)
            log_output(output, name)  # of a cancelled task: at which step its training stopped
            RUNNING.remove(process)
    seconds = time.monotonic() - started
    kind, how = ("failed", "failed after") if process.returncode else ("ended", "done in")
    extra = {"stage": name, "kind": kind, "seconds": seconds}
    get_run_logger().info(f"{name}: {how} {duration(seconds)}", extra=extra)
    if process.returncode:
        raise stage_error(name, process.returncode, lines)
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
    """Return variables: a stage tags its MLflow run, shows progress, fits its tables and ends with this process."""
    return {
        "EQUILIBRIUM_PARENTS": str(os.getpid()),
        "EQUILIBRIUM_FLOW_RUN_ID": flow_run.id or "",
        "EQUILIBRIUM_FLOW_RUN_NAME": flow_run.name or "",
        "EQUILIBRIUM_PROGRESS": "json",
        "COLUMNS": str(shutil.get_terminal_size().columns),
    }


def end_group(process: subprocess.Popen[str]) -> None:
    """End the process group, also if this task is cancelled; else the training would go on without DVC."""
    with suppress(ProcessLookupError):  # the group is empty
        for sign in (signal.SIGTERM, signal.SIGKILL):
            os.killpg(process.pid, sign)
            end = time.monotonic() + GRACE
            while time.monotonic() < end:
                process.poll()  # DVC ends at once, and stays in the group until it is waited for
                os.killpg(process.pid, 0)
                time.sleep(0.05)
