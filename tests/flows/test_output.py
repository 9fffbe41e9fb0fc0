import json
import logging
from collections.abc import Iterator
from itertools import count
from typing import Any

import pytest
from prefect.exceptions import FailedRun

from flows.output import LINE_EVERY, PROGRESS, duration, log_output

DVC = """\
Stage 'fetch' didn't change, skipping
Running stage 'train':
> python -m stages train a b
Updating lock file 'dvc.lock'

To track the changes with git, run:

\tgit add dvc.lock

To enable auto staging, run:

\tdvc config core.autostage true
Use `dvc push` to send your updates to remote storage.
Data and pipelines are up to date.
WARNING: Process 'dvc repro' with (Pid 7), in RWLock-file 'a' had been killed. Auto removed it from the lock file.
Matplotlib is building the font cache; this may take a moment.
WARNING: a stage is frozen
warning: mode collapse
"""
KEPT = {0: "unchanged", 1: "line", 2: "line", -2: "line", -1: "line"}


class Records(logging.Handler):
    """Keeps what is logged."""

    def __init__(self) -> None:
        super().__init__()
        self.kept: list[Any] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.kept.append(record)


@pytest.fixture
def logged(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[list[Any], list[Any]]]:
    """Return the records of the run's log and of bars; the clock goes on by a second at each look."""
    log, bars, logger = Records(), Records(), logging.Logger("a run")
    logger.addHandler(log)
    PROGRESS.addHandler(bars)
    monkeypatch.setattr("flows.output.get_run_logger", lambda: logger)
    for change in ("create", "update"):
        monkeypatch.setattr(f"flows.output.{change}_progress_artifact", lambda *_, **__: None)
    clock = count()
    monkeypatch.setattr("flows.output.time.monotonic", lambda: float(next(clock)))
    yield log.kept, bars.kept
    PROGRESS.removeHandler(bars)


def test_advice_is_left_out_and_nothing_else(logged: tuple[list[Any], list[Any]]) -> None:
    lines = DVC.splitlines()
    assert log_output(lines, "train") == [lines[place] for place in KEPT]
    assert [(record.stage, record.kind) for record in logged[0]] == [("train", kind) for kind in KEPT.values()]


def test_progress_goes_to_the_bar_and_rarely_to_the_log(logged: tuple[list[Any], list[Any]]) -> None:
    bars = [{"completed": number, "total": 60} for number in range(60)]
    texts = ["\x1e" + json.dumps({"bar": bar, "sentence": f"{bar['completed']} of 60"}) + "\n" for bar in bars]
    assert log_output(texts, "train") == []
    assert [record.bar for record in logged[1]] == bars
    assert 60 // (LINE_EVERY + 2) <= len(logged[0]) <= 60 // LINE_EVERY
    assert {record.kind for record in logged[0]} == {"progress"}


@pytest.mark.parametrize("line", ["half a line\x1e" + '{"bar": {}, "sentence": ""}', "half a line\x1e{broken"])
def test_what_stands_before_progress_is_kept(line: str, logged: tuple[list[Any], list[Any]]) -> None:
    (kept,) = log_output([line], "train")
    assert kept.startswith("half a line")
    assert kept.endswith("{broken") == ("broken" in line)


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(0.04, "0.0 s"), (59.94, "59.9 s"), (60, "1 min 0 s"), (151.4, "2 min 31 s"), (11_100, "3 h 5 min")],
)
def test_a_duration_is_short(seconds: float, expected: str) -> None:
    assert duration(seconds) == expected


def test_a_long_stage_has_a_bar_in_prefects_ui_and_no_error_of_it_ends_the_stage(
    logged: tuple[list[Any], list[Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: list[Any] = []

    def create(progress: float, *, key: str, description: str) -> str:
        shown.append((key, progress, description))
        return "an id"

    def update(artifact: str, progress: float, *, description: str) -> None:
        shown.append((artifact, progress, description))
        raise ConnectionError

    monkeypatch.setattr("flows.output.create_progress_artifact", create)
    monkeypatch.setattr("flows.output.update_progress_artifact", update)
    bars = [{"completed": number, "total": 200} for number in range(100)]
    texts = ["\x1e" + json.dumps({"bar": bar, "sentence": f"{bar['completed']} of 200"}) + "\n" for bar in bars]
    log_output(texts[:3], "train")
    assert shown == []
    log_output(["\x1e" + json.dumps({"bar": {"total": None}, "sentence": "no end"}) + "\n"] * 50, "prepare")
    assert shown == []
    log_output(texts, "train")
    (key, progress, sentence), *updates, last = shown
    done = int(sentence.split()[0])
    assert (key, progress) == ("train-progress", done / 2)
    assert [artifact for artifact, *_ in updates] == ["an id"] * len(updates)
    assert progress < updates[0][1] < updates[-1][1] < 50
    assert last[:2] == ("an id", 100.0)


@pytest.mark.parametrize(
    ("error", "kept", "traceback"),
    [(None, 1, False), (ValueError("x"), 1, True), (FailedRun("the state of a flow"), 0, False)],
)
@pytest.mark.parametrize("name", ["task_runs", "flow_runs", "engine"])
def test_a_state_that_was_returned_is_one_line_in_the_log(
    name: str, error: Exception | None, kept: int, traceback: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Prefect gives `exc_info` though there is no exception, and a traceback of its own; a real one stays."""
    records, logger = Records(), logging.getLogger(f"prefect.{name}")
    monkeypatch.setattr(logger, "propagate", False)
    monkeypatch.setattr(logger, "handlers", [records])
    logger.error("failed", exc_info=error or True)
    assert [record.exc_info is not None for record in records.kept] == [traceback] * kept
