"""The run of a training while it trains.

A thread of its own writes to MLflow: training never waits for it, and nothing that goes wrong there ends a training.
What could not be written waits, within bounds, until MLflow answers again; `register` fills in what is missing then.
"""

import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event, Lock, Thread
from typing import TYPE_CHECKING, Any, Self

from mlflow.entities import RunStatus

from mlops.tracking.run_writer import RunWriter, open_run

if TYPE_CHECKING:  # callers that draw grids import PIL themselves
    from PIL.Image import Image

FLUSH_EVERY = 2.0
"""Seconds between two writes, at least: one costs as much as hundreds of metrics in it."""
SHARE = 0.01
"""Of the time after the run was opened, at most, this thread computes: training has the same interpreter."""
MOST_ROWS, MOST_GRIDS = 20_000, 8
"""That wait, the newest; the history and the grids themselves are files."""
LAST, LAST_STOPPED, LAST_IN_VAIN = 60.0, 5.0, 2.0
"""Seconds that the last write may take: after the end of a training, after a stop, and after a write that failed."""


@dataclass(frozen=True)
class Waiting:
    """What MLflow is to get."""

    rows: list[dict[str, float]] = field(default_factory=list)
    grids: "dict[int, Image]" = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)

    def __or__(self, newer: "Waiting") -> "Waiting":
        grids = [*(self.grids | newer.grids).items()][-MOST_GRIDS:]
        return Waiting((self.rows + newer.rows)[-MOST_ROWS:], dict(grids), self.tags | newer.tags)


class LiveRun:
    """A training's run while it trains: metrics in batches, grids, tags, system metrics, and how it ended."""

    def __init__(self, facts: dict[str, Any], prepared: Path) -> None:
        self._facts, self._prepared = facts, prepared
        self._waiting, self._lock = Waiting(), Lock()
        self._writer: RunWriter | None = None
        self._lost, self._ended, self._status = False, Event(), RunStatus.FINISHED
        self._thread = Thread(target=self._work, name="MLflow", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        stopped = kind is not None and not issubclass(kind, Exception)
        self._status = RunStatus.KILLED if stopped else RunStatus.FAILED if kind else RunStatus.FINISHED
        self._ended.set()
        began, patience = time.monotonic(), LAST_STOPPED if stopped else LAST
        while self._thread.is_alive() and time.monotonic() - began < (LAST_IN_VAIN if self._lost else patience):
            self._thread.join(0.1)

    def log_row(self, row: dict[str, float]) -> None:
        """Let a row of the history be written."""
        self._log(Waiting(rows=[row]))

    def log_grid(self, picture: "Image", step: int) -> None:
        """Let a sample grid be written."""
        self._log(Waiting(grids={step: picture}))

    def log_tags(self, tags: dict[str, str]) -> None:
        """Let tags be written over those of the same names."""
        self._log(Waiting(tags=tags))

    def _log(self, new: Waiting) -> None:
        with self._lock:
            self._waiting |= new

    def _work(self) -> None:
        """Write what waits, again and again, and a last time once the training has ended."""
        pause, last = 0.0, False
        while not last:
            last = self._ended.wait(pause)
            opened, began = self._writer is not None, time.thread_time()
            self._write(last)
            # To open the run computes for seconds, and once: curves need not wait for a hundred times as long.
            pause = max(FLUSH_EVERY, (time.thread_time() - began) / SHARE if opened else 0.0)

    def _write(self, last: bool) -> None:
        """Write what waits; if that fails, it waits again, and a warning is printed unless the last try failed, too."""
        with self._lock:
            taken, self._waiting = self._waiting, Waiting()
        try:
            writer = self._opened()
            stopped = self._status == RunStatus.KILLED
            if last and stopped:  # first: there is little time
                writer.client.set_terminated(writer.id, "KILLED")
            writer.write_rows(taken.rows)
            for step, picture in taken.grids.items():
                writer.write_grid(picture, step)
            if taken.tags:
                writer.set_tags(taken.tags)
            if last:
                self._monitor.finish()
            if last and not stopped:
                writer.client.set_terminated(writer.id, RunStatus.to_string(self._status))
        except Exception as error:  # of MLflow, the network, a database, a disk, an answer that is no JSON
            with self._lock:
                self._waiting = taken | self._waiting
            if not self._lost:
                reason = str(error).partition("\n")[0] or type(error).__name__
                print(f"warning: MLflow does not answer, so training goes on without it: {reason}", file=sys.stderr)
            self._lost = True
        else:
            if self._lost:
                print("MLflow answers again")
            self._lost = False

    def _opened(self) -> RunWriter:
        """Return the writer of the run, which is running from now on; after an error it is read what has arrived."""
        if self._writer is None:
            # Only here: it imports the library that reads GPUs, which no other use of MLflow needs.
            from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

            writer = open_run(self._facts, self._prepared)
            writer.client.update_run(writer.id, status="RUNNING")
            self._monitor = SystemMetricsMonitor(writer.id, sampling_interval=5, resume_logging=True)
            self._monitor.start()
            self._writer = writer
        elif self._lost:
            self._writer.read_known()
        return self._writer
