"""What a stage prints, line by line: to the flow run's log, and its progress also to whoever draws a bar."""

import json
import logging
import re
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Any
from uuid import UUID

from prefect import get_run_logger
from prefect.artifacts import create_progress_artifact, update_progress_artifact
from prefect.exceptions import FailedRun
from prefect.settings import PREFECT_CLIENT_MAX_RETRIES, temporary_settings

from flows.failure import CONTROL

PROGRESS = logging.getLogger("flows.progress")
"""Its records have the state of a bar; nobody handles them unless somebody draws it."""
PROGRESS.propagate = False
PROGRESS.setLevel(logging.INFO)
LINE_EVERY = 10.0
"""Seconds between two lines of progress in the log, at least."""
ADVICE = re.compile(
    r"To track the changes with git, run:|\s*git add |To enable auto staging, run:|\s*dvc config core\.autostage "
    r"|Use `dvc push` to |(Updating|Generating) lock file |Data and pipelines are up to date\."
    r"|WARNING: Process '.+' with \(Pid \d+\), in RWLock-file '.+' had been killed"
    r"|Matplotlib (created a temporary cache directory|is building the font cache)|mkdir -p failed for path "
    r"|Successfully registered model |Registered model '.+' already exists\. Creating a |Created version "
)
"""How lines of DVC, matplotlib and MLflow begin that tell nobody what to do."""
UNCHANGED = re.compile(r"Stage '.+' didn't change, skipping")


def _once(record: logging.LogRecord) -> bool:
    """Return whether a record says something new about a state that a task or a flow returned, and keep it a line.

    Prefect adds an exception that is none, so that `NoneType: None` would be printed, and raises one of its own for a
    flow whose failed state it has logged, with a traceback of its engine.
    """
    error = record.exc_info[1] if record.exc_info else None
    if record.exc_info and error is None:
        record.exc_info = None
    return not isinstance(error, FailedRun)


for _name in ("task_runs", "flow_runs", "engine"):
    logging.getLogger(f"prefect.{_name}").addFilter(_once)


class Shown:
    """How far a stage is, in Prefect's UI: made at the first line of progress, so a short stage has none."""

    def __init__(self, stage: str) -> None:
        self._stage = stage
        self._id: UUID | None = None

    def update(self, state: dict[str, Any]) -> None:
        """Show a state of progress, if it has an end; a server that does not answer stops no stage."""
        done, total = state["bar"].get("completed"), state["bar"].get("total")
        if not total:
            return
        percent, sentence = 100 * done / total, state["sentence"]
        with _once_tried():
            if self._id is None:
                key = f"{self._stage}-progress"
                self._id = create_progress_artifact(percent, key=key, description=sentence)  # type: ignore[assignment]
            else:
                update_progress_artifact(self._id, percent, description=sentence)

    def end(self) -> None:
        """Show that nothing more comes."""
        if self._id is not None:
            with _once_tried():
                update_progress_artifact(self._id, 100.0, description="ended")


@contextmanager
def _once_tried() -> Iterator[None]:
    """Ask a server once, whatever it answers: the client would try for a minute, and a stage's last line would wait."""
    with suppress(Exception), temporary_settings({PREFECT_CLIENT_MAX_RETRIES: 0}):
        yield


def log_output(lines: Iterable[str], stage: str) -> list[str]:
    """Log what a stage prints, as it comes, and return it, but for progress and advice.

    Progress is the JSON of `mlops.project.progress`, behind a record separator.
    """
    logger, kept, printed = get_run_logger(), list[str](), time.monotonic()
    shown = Shown(stage)
    for line in lines:
        text, _, progress = line.partition("\x1e")
        if progress and (state := _parsed(progress)):
            PROGRESS.info("", extra={"stage": stage, "kind": "bar", "bar": state["bar"]})
            if time.monotonic() - printed >= LINE_EVERY:
                printed = time.monotonic()
                logger.info(state["sentence"], extra={"stage": stage, "kind": "progress"})
                shown.update(state)
        elif progress:
            text += progress
        if (text := CONTROL.sub("", text).rstrip()) and not ADVICE.match(text):
            kind = "unchanged" if UNCHANGED.match(text) else "line"
            logger.info(text, extra={"stage": stage, "kind": kind})
            kept.append(text)
    shown.end()
    return kept


def _parsed(progress: str) -> dict[str, Any] | None:
    """Return the state of a bar; None if another line got into it."""
    try:
        state = json.loads(progress)
    except ValueError:
        return None
    return state if isinstance(state, dict) and {"bar", "sentence"} <= state.keys() else None


def duration(seconds: float) -> str:
    """Return a time as `8.5 s`, `2 min 31 s` or `3 h 5 min`."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
