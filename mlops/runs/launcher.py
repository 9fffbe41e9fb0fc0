"""Starts a stage as several ranks by torchrun's launcher, and prints in one line how they ended."""

import logging
import os
import signal
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NoReturn

from torch import cuda
from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from mlops.project.errors import UserError
from mlops.project.identity import project_root
from mlops.project.params import Params
from mlops.runs.worker import LOST, MEETING
from mlops.runs.workspace import last_step
from mlops.safety.ending import GRACE, SIGNALS

ENDED = (128 + signal.SIGTERM, -signal.SIGTERM)
"""Exit status of ranks that the launcher ends, because another one has failed."""


def launch(name: str, paths: tuple[str, ...], values: Params) -> None:
    """Run a stage as `execution.processes` ranks, reachable on this machine alone.

    It is a UserError if there are fewer GPUs than ranks, or a rank ended with one. If a rank died, or this process
    received a signal, the ranks have ended, and SystemExit is raised.
    """
    count = values.execution.processes
    _check_gpus(count, values.compute.device)
    logging.disable()  # torch's launcher would log the same in other words
    with TemporaryDirectory(prefix="ranks-") as folder:
        loopback = "lo0" if sys.platform == "darwin" else "lo"
        own = {MEETING: f"file://{folder}/meeting", "GLOO_SOCKET_IFNAME": loopback, "NCCL_SOCKET_IFNAME": loopback}
        # Without OMP_NUM_THREADS, which torchrun would set: under it numpy's sums, and so scores, have other bits.
        os.environ.update(own)
        try:
            elastic_launch(_config(count, folder), sys.executable)("-m", "stages", name, *paths)
        except ChildFailedError as error:
            _end(error.failures, count)
        except SignalException as error:
            sys.exit(128 + error.sigval)


def _check_gpus(count: int, device: str) -> None:
    gpus = cuda.device_count()
    if device != "cpu" and 0 < gpus < count:
        raise UserError(
            f"execution.processes is {count}, but torch finds {gpus} GPU(s) here, and each process needs its own; "
            "lower it, or set compute.device to cpu"
        )


def _config(count: int, folder: str) -> LaunchConfig:
    """Return how torchrun starts ranks once, on one node; they find each other by a file, so no port is open."""
    return LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=count,
        run_id="ranks",
        rdzv_backend="c10d",
        rdzv_endpoint=f"{folder}/agent",
        rdzv_configs={"store_type": "file"},
        local_addr="127.0.0.1",
        max_restarts=0,
        shutdown_timeout=GRACE + 2,
        logs_specs=DefaultLogsSpecs(log_dir=folder),
    )


def _end(failures: dict[int, ProcessFailure], count: int) -> NoReturn:
    """End as the rank did that failed first: not one that lost another, and not one that the launcher ended.

    A signal to rank 0 alone stops the training as one to this process does.
    """
    rank, failure = min(failures.items(), key=lambda item: (item[1].exitcode == LOST, item[1].exitcode in ENDED))
    if failure.exitcode == LOST:
        sys.exit(failure.message)
    if rank == 0 and failure.exitcode in [128 + number for number in SIGNALS]:
        sys.exit(failure.exitcode)
    if Path(failure.error_file).is_file():
        raise UserError(failure.message)
    if failure.exitcode > 0 and failure.exitcode not in ENDED:
        sys.exit(f"rank {rank} of {count} broke (exit {failure.exitcode}); its traceback is above")
    step = _last_step(failures[0].pid) if 0 in failures else None
    remedy = "run again" if step is None else f"run again: training goes on from step {step}"
    # Not an `error:`, which only the user can correct: a flow retries what died.
    sys.exit(f"rank {rank} of {count} died (signal {abs(failure.exitcode) % 128}); {remedy}")


def _last_step(process: int) -> int | None:
    """Return the step of the last checkpoint of the training that a process locked last; None without any."""
    locks = [lock for lock in (project_root() / ".checkpoints").glob("*/lock") if lock.read_bytes() == b"%d" % process]
    newest = max(locks, key=lambda lock: lock.stat().st_mtime, default=Path())
    return last_step(newest.parent) if locks else None
