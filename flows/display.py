"""What `python -m flows` shows of the run's log: what the stages print, a bar, and of Prefect what is a warning."""

import logging
import sys
import traceback
from itertools import takewhile

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn
from rich.text import Text

from flows.failure import ENDED, MARKS, STOPPED, StageFailedError
from flows.output import PROGRESS, duration

REPEATED = ("Finished in state ", "Task run failed with state: ")
"""How Prefect begins what the error says that ends this process."""
FIRST, LAST = "code", "register"
"""The stage that runs each time, and the one whose table is to be the end."""


class Display(logging.Handler):
    """Takes the place of Prefect's console handler: a bar and lines on a terminal, lines alone elsewhere."""

    def __init__(self) -> None:
        super().__init__()
        self._terminal = sys.stdout.isatty()
        # Else FORCE_COLOR would make a file a terminal.
        self._console = Console(force_terminal=self._terminal, highlight=False, soft_wrap=not self._terminal)
        columns = [TextColumn(f"{{task.fields[{name}]}}", markup=False) for name in ("counted", "left", "note")]
        self._bars = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=None),
            *columns,
            console=self._console,
            transient=True,
            expand=True,
            refresh_per_second=4,
            disable=not self._terminal or self._console.is_dumb_terminal,
        )
        self._task = self._bars.add_task("", total=None, counted="", left="", note="")
        self._last = ""
        self._unchanged, self._held, self._seconds = list[str](), list[str](), dict[str, float]()

    def __enter__(self) -> "Display":
        """Show what this process logs from now on."""
        for handler in logging.getLogger().handlers:  # Prefect configures those again that it has configured
            handler.addFilter(lambda _: False)
        for logger in (logging.getLogger(), PROGRESS):
            logger.addHandler(self)
        self.wait("the project is checked")
        self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Leave the terminal as it was."""
        self._bars.stop()

    def stopping(self) -> None:
        """Show nothing from now on; keep what a training prints about its stop.

        Some of Prefect's loggers have handlers of their own, and complain of the server that the signal has ended.
        """
        self._bars.stop()
        for logger in [*logging.root.manager.loggerDict.values()]:
            for handler in getattr(logger, "handlers", []):
                if handler is not self:
                    handler.addFilter(lambda _: False)
        self.addFilter(self._keep_last)

    def _keep_last(self, record: logging.LogRecord) -> bool:
        if STOPPED.match(record.getMessage()):
            self._last = record.getMessage()
        return False

    def stop(self, otherwise: str) -> None:
        """Show the line that was kept, or this one if there is none."""
        self._print(self._last or otherwise)

    def wait(self, reason: str) -> None:
        """Show a bar whose end is unknown."""
        self._bars.reset(self._task, total=None, description=reason, counted="", left="", note="")

    def emit(self, record: logging.LogRecord) -> None:
        """Show a record, or not."""
        fields, text = vars(record), record.getMessage()
        if "stage" not in fields:
            if record.levelno >= logging.WARNING and not text.startswith(REPEATED):
                self._print(text + _traceback(record), "yellow")
            return
        stage = fields["stage"]
        match fields["kind"]:
            case "bar":
                self._bars.update(self._task, **fields["bar"])
            case "started":
                self.wait(stage)
            case "progress" if self._bars.disable:
                self._print(text)
            case "unchanged":
                self._unchanged.append(stage)
                if stage == LAST:
                    self._tell_unchanged(LAST)
            case "line":
                self._line(stage, text)
            case "ended" if stage not in self._unchanged:
                self._ended(stage, fields["seconds"])
            case "failed":
                self._held = list(takewhile(lambda line: not MARKS.match(line), self._held))  # the error is the end
                self._release()
                self._print(text)

    def _line(self, stage: str, text: str) -> None:
        self._tell_unchanged(stage)
        if ENDED.match(text) or text.startswith("> python -m "):
            return
        if text == f"Running stage '{stage}':":
            if self._bars.disable:
                self._print(f"{stage}: running")
        elif stage == LAST or self._held or MARKS.match(text):
            self._held.append(text)
        else:
            self._print(text, "yellow" if text.startswith("warning: ") else "")

    def _tell_unchanged(self, before: str) -> None:
        if names := ", ".join(self._unchanged):
            nothing = before == LAST and self._seconds.keys() <= {FIRST}
            self._print(f"nothing to do: {names} are up to date" if nothing else f"unchanged: {names}")
            self._unchanged = []

    def _ended(self, stage: str, seconds: float) -> None:
        self._seconds[stage] = seconds
        if stage == LAST:
            total = duration(sum(self._seconds.values()))
            self._print(f"{stage}: done in {duration(seconds)}; all stages in {total}")
            self._release()
        else:
            self._release()
            self._print(f"{stage}: done in {duration(seconds)}")

    def _release(self) -> None:
        for text in self._held:
            self._print(text)
        self._held = []

    def _print(self, text: str, style: str = "") -> None:
        self._console.print(Text(text, style))


def _traceback(record: logging.LogRecord) -> str:
    """Return the traceback of a record, unless it is of a stage's error, whose traceback is of our own code."""
    error = record.exc_info[1] if record.exc_info else None
    if error is None or isinstance(error, StageFailedError):
        return ""
    return "\n" + "".join(traceback.format_exception(error)).rstrip()
