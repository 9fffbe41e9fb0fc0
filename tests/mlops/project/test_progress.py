import json
import os
import pty
import re
import subprocess
import sys
from typing import Any

import pytest

from mlops.project.progress import EVERY, JSON, progress
from tests.project import ROOT, environment


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
    """Return what time it is: a test sets it."""
    now = {"now": 100.0}
    monkeypatch.setattr("mlops.project.progress.time.monotonic", lambda: now["now"])
    return now


def test_a_log_gets_whole_lines_rarely(clock: dict[str, float], capsys: pytest.CaptureFixture[str]) -> None:
    with progress("train: steps", 4000, 1000) as line:
        for step in range(1000, 4001, 10):
            clock["now"] = 100 + (step - 1000) / 100
            line.update(step, "d_loss 0.5  " + "a note longer than a terminal  " * 4)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 30 // EVERY["lines"]
    assert all(line.startswith("train: steps ") and line.endswith("terminal  ") for line in lines)
    assert [re.findall(r"[\d,:]+\d", line)[:3] for line in lines[:2]] == [
        ["2,000", "4,000", "0:00:20"],
        ["3,000", "4,000", "0:00:10"],
    ]


def test_a_program_gets_json_with_a_note_that_fits_its_terminal(
    clock: dict[str, float], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(JSON, "json")
    monkeypatch.setenv("COLUMNS", "80")
    note = "d_loss 0.631  g_loss 0.814  real_prob 0.543  fake_prob 0.456"
    with progress("train: steps", 100_000) as line:
        for step in range(50_000):
            clock["now"] += 0.01
            line.update(step, note)
    texts = capsys.readouterr().err.split("\n")[:-1]
    assert 0.9 * 500 / EVERY["json"] < len(texts) <= 500 / EVERY["json"] + 1
    assert {text[0] for text in texts} == {"\x1e"}
    first, *_, last = (json.loads(text[1:]) for text in texts)
    assert (first["bar"]["completed"], first["bar"]["total"], first["bar"]["left"]) == (0, 100_000, "")
    assert last["bar"]["note"] == "d_loss 0.631  g_loss 0.814"
    assert last["sentence"].endswith(note)
    assert len(last["bar"]["counted"]) == len("100,000 of 100,000")


@pytest.mark.parametrize(
    ("unit", "total", "expected"), [("bytes", 2_000_000, "1.0 MB of 2.0 MB"), ("items", None, "1,000,000")]
)
def test_bytes_and_unknown_totals(
    unit: Any, total: int | None, expected: str, clock: dict[str, float], capsys: pytest.CaptureFixture[str]
) -> None:
    with progress("it:", total, unit=unit) as line:
        clock["now"] += EVERY["lines"]
        line.update(1_000_000)
    assert expected in capsys.readouterr().err


WORK = """
from mlops.project.progress import progress
with progress("train: steps", 3) as line:
    for step in (1, 2, 3):
        line._shown = 0
        line.update(step, "d_loss 0.5")
        line._bars.refresh()
"""


def drawn(terminal: bool) -> str:
    """Return what a process writes to a terminal of 80 columns, or to a pipe though colours are forced."""
    own, other = pty.openpty() if terminal else os.pipe()
    variables = {"COLUMNS": "80", "TERM": "xterm"} if terminal else {"FORCE_COLOR": "1"}
    subprocess.run([sys.executable, "-c", WORK], cwd=ROOT, env=environment(**variables), stderr=other, check=True)
    os.set_blocking(own, False)
    return os.read(own, 1 << 16).decode()


def test_a_terminal_gets_a_bar_that_fits_and_is_left_as_it_was() -> None:
    text = drawn(terminal=True)
    assert (text.count("\x1b[?25l"), text.count("\x1b[?25h")) == (1, 1)  # the cursor is hidden, and shown again
    frames = [re.sub(r"\x1b\[[\d;?]*[A-Za-z]", "", frame).strip("\r\n") for frame in text.split("\x1b[2K")]
    assert all(word in "".join(frames) for word in ("2 of 3", "0:00:00 left", "d_loss 0.5"))
    assert max(map(len, frames)) == 80
    assert "\n" not in text.rpartition("\x1b[?25l")[2].partition("\x1b[?25h")[0].strip()


def test_a_file_gets_no_bar_though_colours_are_forced() -> None:
    lines = drawn(terminal=False).splitlines()
    assert [line[:19] for line in lines] == [f"train: steps {step} of 3" for step in (1, 2, 3)]
