import logging
import sys
from collections.abc import Callable, Iterator

import pytest

from flows.display import Display
from flows.failure import StageFailedError

Show = Callable[..., None]
WORKED = "Running stage '{}':", "> python -m stages {} a b"


@pytest.fixture
def _restored() -> Iterator[None]:
    """Give all loggers the handlers back that they had, and those their filters."""
    loggers = [logging.getLogger(), *(logging.getLogger(name) for name in logging.root.manager.loggerDict)]
    before = [(logger, [*logger.handlers]) for logger in loggers]
    filters = {handler: [*handler.filters] for _, handlers in before for handler in handlers}
    yield
    for logger, handlers in before:
        logger.handlers[:] = handlers
    for handler, kept in filters.items():
        handler.filters[:] = kept


@pytest.fixture
def show(_restored: None) -> Iterator[Show]:
    """Return a function that logs a record of a stage, which a display shows; stdout is no terminal."""
    root = logging.getLogger()

    def log(stage: str, kind: str, text: str = "", **more: object) -> None:
        record = root.makeRecord(
            "a run", logging.INFO, "", 0, text, (), None, extra={"stage": stage, "kind": kind, **more}
        )
        display.handle(record)

    with Display() as display:
        yield log


@pytest.mark.usefixtures("_restored")
def test_after_a_signal_only_the_step_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    root, own = logging.getLogger(), logging.getLogger("has a handler of its own")
    own.addHandler(logging.StreamHandler(sys.stdout))
    with Display() as display:
        display.stopping()
        for text in ("stage train failed", "stopped at step 1,340 of 6,000; make run goes on", "ConnectError"):
            display.handle(root.makeRecord("a run", logging.WARNING, "", 0, text, (), None))
            own.warning(text)
        display.stop("stopped")
    assert capsys.readouterr().out == "stopped at step 1,340 of 6,000; make run goes on\n"


def ran(show: Show, stage: str, *lines: str, seconds: float = 2.0) -> None:
    """Log what a stage that runs prints."""
    show(stage, "started")
    for line in (*(text.format(stage) for text in WORKED), *lines):
        show(stage, "line", line)
    show(stage, "ended", "", seconds=seconds)


def test_a_run_with_nothing_to_do_takes_five_lines_and_the_table(
    show: Show, capsys: pytest.CaptureFixture[str]
) -> None:
    names = ("fetch", "prepare", "extractor", "train", "replicate", "choose", "diagnose", "evaluate")
    ran(show, "code")
    for name in names:
        show(name, "started")
        show(name, "unchanged", f"Stage '{name}' didn't change, skipping")
        show(name, "ended", "", seconds=0.5)
    ran(show, "register", "a table", "its end", seconds=1.0)
    *lines, table, end = capsys.readouterr().out.splitlines()
    assert (table, end) == ("a table", "its end")
    assert len(lines) <= 5
    (line,) = [line for line in lines if "fetch" in line]
    assert line.startswith("nothing to do: ")
    assert all(name in line for name in names)
    assert "2.0 s" in lines[1]
    assert "1.0 s" in lines[-1]
    assert "3.0 s" in lines[-1]  # of all


def test_what_did_not_change_is_told_before_what_did(show: Show, capsys: pytest.CaptureFixture[str]) -> None:
    show("fetch", "unchanged")
    show("fetch", "ended", seconds=0.5)
    ran(show, "train", "warning: mode collapse", seconds=61.0)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "unchanged: fetch"
    assert lines[2] == "warning: mode collapse"
    assert "1 min 1 s" in lines[3]
    assert len(lines) == 4


def test_progress_is_a_line_without_a_terminal(show: Show, capsys: pytest.CaptureFixture[str]) -> None:
    show("train", "bar", bar={"completed": 1, "total": 2})
    show("train", "progress", "train: steps 1 of 2  " + "a note  " * 20)
    assert capsys.readouterr().out == "train: steps 1 of 2  " + "a note  " * 20 + "\n"


def test_an_error_that_ends_the_process_is_not_shown_twice(show: Show, capsys: pytest.CaptureFixture[str]) -> None:
    for line in ("train: 1,206 images", "error: no data", "  of a.png", "ERROR: failed to reproduce 'train': ..."):
        show("train", "line", line)
    show("train", "failed", "train: failed after 1 s")
    assert capsys.readouterr().out.splitlines() == ["train: 1,206 images", "train: failed after 1 s"]


def test_a_stage_that_goes_on_after_an_error_shows_it(show: Show, capsys: pytest.CaptureFixture[str]) -> None:
    ran(show, "train", "error: of some library", "and more")
    assert capsys.readouterr().out.splitlines()[1:3] == ["error: of some library", "and more"]


def test_of_prefect_only_warnings_are_shown(show: Show, capsys: pytest.CaptureFixture[str]) -> None:
    logger = logging.getLogger("prefect.engine")
    logger.setLevel(logging.INFO)
    logger.info("Beginning flow run")
    logger.error("Finished in state Failed('no data')")
    logger.error("Task run failed with exception - Retry 1/2", exc_info=StageFailedError("no data"))
    assert capsys.readouterr().out.splitlines() == ["Task run failed with exception - Retry 1/2"]
    logger.error("Encountered an exception", exc_info=ValueError("of our own code"))
    assert capsys.readouterr().out.rstrip().splitlines()[-1] == "ValueError: of our own code"


def test_markup_is_shown_as_it_is(show: Show, capsys: pytest.CaptureFixture[str]) -> None:
    show("prepare", "line", "refused: [bold]x.jpg, [low, high]")
    assert capsys.readouterr().out == "refused: [bold]x.jpg, [low, high]\n"
