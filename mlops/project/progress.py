"""Progress of everything that takes a while: a bar on a terminal, a line every few seconds in a log, or JSON."""

import json
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, Literal

from rich.console import Console
from rich.filesize import decimal
from rich.progress import BarColumn, Progress, TextColumn

JSON = "EQUILIBRIUM_PROGRESS"
"""A variable that is set if a program reads stderr: progress is then a JSON text sequence (RFC 7464)."""
EVERY = {"bar": 0.2, "json": 0.5, "lines": 10.0}
"""Seconds between two updates, at least."""
SHORTEST_BAR = 8
FIELDS = ("counted", "left", "note")
"""What stands behind a bar, and in a line of a log."""

Unit = Literal["items", "bytes"]


class Line:
    """The progress of one piece of work."""

    def __init__(
        self, console: Console, bars: Progress, description: str, total: int | None, first: int, unit: Unit
    ) -> None:
        self._console, self._bars, self._description = console, bars, description
        self._total, self._first, self._unit = total, first, unit
        self._form = "json" if os.environ.get(JSON) else "lines" if bars.disable else "bar"
        self._started = time.monotonic()
        self._shown = self._started if self._form == "lines" else 0.0
        self._task = bars.add_task(description, total=total, completed=first, counted="", left="", note="")
        self.update(first)

    def update(self, completed: int, note: str = "") -> None:
        """Show how much is done, and a few words about it, of which parts are separated by two spaces."""
        now = time.monotonic()
        if now - self._shown < EVERY[self._form]:
            return
        self._shown = now
        counted, left = self._counted(completed), self._left(completed, now - self._started)
        sentence = "  ".join(filter(None, (f"{self._description} {counted}", left, note)))
        if self._form == "lines":
            _write(sentence)
            return
        if self._total is not None:
            counted = counted.rjust(len(self._counted(self._total)))  # so that the bar keeps its length
        texts = {"counted": counted, "left": left, "note": self._fitting(counted, left, note)}
        if self._form == "bar":
            self._bars.update(self._task, completed=completed, **texts)  # type: ignore[arg-type]  # fields
        else:
            state = {"description": self._description, "completed": completed, "total": self._total}
            _write("\x1e" + json.dumps({"sentence": sentence, "bar": state | texts}))

    def _counted(self, completed: int) -> str:
        shown = decimal if self._unit == "bytes" else "{:,}".format
        return shown(completed) if self._total is None else f"{shown(completed)} of {shown(self._total)}"

    def _left(self, completed: int, seconds: float) -> str:
        if self._total is None or completed == self._first:
            return ""
        left = seconds / (completed - self._first) * (self._total - completed)
        return f"{timedelta(seconds=round(left))} left"

    def _fitting(self, counted: str, left: str, note: str) -> str:
        """Return the first parts of the note, as many as a line of the terminal has room for."""
        beside = len(self._description) + SHORTEST_BAR + len(counted) + len(left) + 4  # and the spaces between
        room, kept = self._console.width - beside, ""
        for part in note.split("  "):
            if len(longer := f"{kept}  {part}".strip()) > room:
                break
            kept = longer
        return kept


def _write(line: str) -> None:
    """Write a line to stderr at once, so that no other process of the stage writes into it."""
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


@contextmanager
def progress(description: str, total: int | None, first: int = 0, *, unit: Unit = "items") -> Iterator[Line]:
    """Show on stderr how far the block is between `first` and `total`, None if that is unknown.

    `description` names the stage and what it counts.
    """
    terminal = sys.stderr.isatty() and not os.environ.get(JSON)
    console = Console(stderr=True, force_terminal=terminal)  # else FORCE_COLOR would make a file a terminal
    texts = [TextColumn(f"{{task.fields[{name}]}}", markup=False) for name in FIELDS]
    columns = (TextColumn("{task.description}", markup=False), BarColumn(bar_width=None), *texts)
    drawn = terminal and not console.is_dumb_terminal
    options: dict[str, Any] = {"disable": not drawn, "transient": True, "expand": True, "refresh_per_second": 4}
    with Progress(*columns, console=console, **options) as bars:
        yield Line(console, bars, description, total, first, unit)
