"""What a stage prints, line by line: to the flow run's log, and its progress also to whoever draws a bar."""

import json
import logging
import re
import time
from collections.abc import Iterable
from typing import Any

from prefect import get_run_logger

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


def log_output(lines: Iterable[str], stage: str) -> list[str]:
    """Log what a stage prints, as it comes, and return it, but for progress and advice.

    Progress is the JSON of `mlops.project.progress`, behind a record separator.
    """
    logger, kept, printed = get_run_logger(), list[str](), time.monotonic()
    for line in lines:
        text, _, progress = line.partition("\x1e")
        if progress and (state := _parsed(progress)):
            PROGRESS.info("", extra={"stage": stage, "kind": "bar", "bar": state["bar"]})
            if time.monotonic() - printed >= LINE_EVERY:
                printed = time.monotonic()
                logger.info(state["sentence"], extra={"stage": stage, "kind": "progress"})
        elif progress:
            text += progress
        if (text := CONTROL.sub("", text).rstrip()) and not ADVICE.match(text):
            kind = "unchanged" if UNCHANGED.match(text) else "line"
            logger.info(text, extra={"stage": stage, "kind": kind})
            kept.append(text)
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
