"""A few of the kills that `python -m benchmarks kills` makes."""

from pathlib import Path

import pytest

from benchmarks.kills import Outcome, trial
from tests.project import LONGER, Project


@pytest.mark.slow
@pytest.mark.parametrize(("victim", "seed"), [("dvc", 0), ("trainer", 2)])
def test_after_a_kill_the_next_run_makes_good(
    victim: str, seed: int, finished: Project, experiment: tuple[Project, str], tmp_path: Path
) -> None:
    prepared = finished.copy(tmp_path / "prepared")
    prepared.set(train=LONGER)
    whole = {name: content for name, content in experiment[0].results().items() if "scores" not in name}
    outcome = Outcome("dvc repro", victim)
    folder = tmp_path / f"trial-{seed}"
    folder.mkdir()
    trial(outcome, prepared, folder, whole, seconds=8, target="choose")
    assert outcome.wrong() == []


def test_what_must_not_be_is_named() -> None:
    assert Outcome("dvc repro", "dvc", finished=1, trainers=1, orphan=9.9).wrong() == []
    bad = Outcome("dvc repro", "dvc", finished=2, trainers=2, orphan=10.1, errors=["other bytes"])
    assert len(bad.wrong()) == 4
