"""Progress of everything that takes a while: a bar on a terminal, a line every few seconds in a log."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)

LINE_EVERY = 5.0
"""Seconds between two lines in a log."""


class Line:
    """The progress of one piece of work."""

    def __init__(self, bars: Progress, description: str, total: int | None, first: int) -> None:
        self._bars, self._description, self._total, self._first = bars, description, total, first
        self._task: TaskID = bars.add_task(description, total=total, completed=first, note="")
        self._started = self._printed = time.monotonic()

    def update(self, completed: int, note: str = "") -> None:
        """Show how much is done, and a few words about it."""
        self._bars.update(self._task, completed=completed, note=note)
        now = time.monotonic()
        if self._bars.disable and now - self._printed >= LINE_EVERY:
            self._printed = now
            print(self._sentence(completed, note, now - self._started), file=sys.stderr, flush=True)

    def _sentence(self, completed: int, note: str, seconds: float) -> str:
        if self._total is None or completed == self._first:
            return f"{self._description} {completed:,}  {note}"
        left = seconds / (completed - self._first) * (self._total - completed)
        return f"{self._description} {completed:,} of {self._total:,}, {left:.0f} s left  {note}"


@contextmanager
def progress(
    description: str, total: int | None, first: int = 0, *, unit: Literal["items", "bytes"] = "items"
) -> Iterator[Line]:
    """Show on stderr how far the block is between `first` and `total`, None if that is unknown.

    `description` names the stage and what it counts.
    """
    console = Console(stderr=True)
    counter: ProgressColumn = DownloadColumn() if unit == "bytes" else MofNCompleteColumn()
    text, note = TextColumn("{task.description}", markup=False), TextColumn("{task.fields[note]}", markup=False)
    columns = (text, BarColumn(), counter, TimeRemainingColumn(), note)
    with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as bars:
        yield Line(bars, description, total, first)
