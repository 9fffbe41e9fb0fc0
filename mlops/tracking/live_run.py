"""The run of a training while it trains.

The training never waits for MLflow: an MLflow that is lost is tried again, and what is missing at the end `register`
fills in.
"""

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from mlflow.entities import RunStatus
from mlflow.exceptions import MlflowException

from mlops.tracking.run_writer import open_run

if TYPE_CHECKING:  # callers that draw grids import PIL themselves
    from PIL.Image import Image

FLUSH_EVERY = 2.0
"""Seconds between two writes of buffered metrics, at least: one costs as much as hundreds of metrics in it."""


class LiveRun:
    """A training's run while it trains: metrics in batches, grids, system metrics, and how it ended."""

    def __init__(self, facts: dict[str, Any], prepared: Path) -> None:
        # Only here: it imports the library that reads GPUs, which no other use of MLflow needs.
        from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

        self.writer = open_run(facts, prepared)
        self.rows: list[dict[str, float]] = []
        self.lost, self.again = False, 0.0
        self.flushed, self.cost = time.monotonic(), 0.0
        self.monitor = SystemMetricsMonitor(self.writer.id, sampling_interval=5, resume_logging=True)

    def __enter__(self) -> Self:
        self.writer.client.update_run(self.writer.id, status="RUNNING")
        self.monitor.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        stopped = kind is not None and not issubclass(kind, Exception)
        if not stopped:  # who stops a training waits for it
            self.again = 0.0
        self._flush()
        self.monitor.finish()
        status = RunStatus.KILLED if stopped else RunStatus.FAILED if kind else RunStatus.FINISHED
        self._try(lambda: self.writer.client.set_terminated(self.writer.id, RunStatus.to_string(status)))

    def log_row(self, row: dict[str, float]) -> None:
        """Buffer a row of the history; `flush` writes it."""
        self.rows.append(row)

    def flush(self) -> None:
        """Write the buffered rows, if the last write is seconds ago: writing takes at most a hundredth of all time."""
        now = time.monotonic()
        if now - self.flushed > max(FLUSH_EVERY, 100 * self.cost):
            self._flush()
            self.cost = time.monotonic() - now

    def log_grid(self, picture: "Image", step: int) -> None:
        """Write a sample grid."""
        self._try(lambda: self.writer.write_grid(picture, step))

    def log_tags(self, tags: dict[str, str]) -> None:
        """Write tags over those of the same names."""
        self._try(lambda: self.writer.set_tags(tags))

    def _flush(self) -> None:
        rows, self.rows, self.flushed = self.rows, [], time.monotonic()
        if not self._try(lambda: self.writer.write_rows(rows)):
            self.rows = rows + self.rows

    def _try(self, write: Callable[[], None]) -> bool:
        """Write, and return whether that worked.

        If MLflow does not answer, a warning is printed and training goes on. The next try comes so much later that
        tries, too, take at most a hundredth of all time.
        """
        started = time.monotonic()
        if started < self.again:
            return False
        try:
            if self.lost:
                self.writer.read_known()
            write()
        except MlflowException as error:
            if not self.lost:
                print(f"warning: MLflow does not answer, so training goes on without it: {error}", file=sys.stderr)
            now = time.monotonic()
            self.lost, self.again = True, now + max(FLUSH_EVERY, 100 * (now - started))
            return False
        if self.lost:
            print("MLflow answers again")
        self.lost = False
        return True
