import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mlops.cards.end_table import print_end
from mlops.scoring.comparison import TYPICAL
from mlops.scoring.evaluation import LOWER_IS_BETTER, Evaluation

Rows = list[list[str]]


@pytest.fixture
def printed(
    every_score: Callable[[str], Evaluation], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Rows]:
    """Return a function that prints the table in 80 columns and returns the two cells of each of its lines."""

    def rows(
        extractor: str,
        champion: str | None,
        *,
        within: bool = True,
        remedy: str = "",
        trend: str = "level",
        **changes: Any,
    ) -> Rows:
        monkeypatch.setenv("COLUMNS", "80")
        place = {
            "decision": "refused",
            "reason": "because [low]",
            "model": "m",
            "version": "3",
            "within_bounds": within,
        }
        doctor = {"verdict": "healthy", "remedy": remedy}
        choice = {"sentence": "it [is] so", "trend": trend, "last": 600}
        print_end(
            replace(every_score(extractor), **changes),
            place,
            f"version {champion}",
            champion,
            doctor,
            choice,
            Path("evaluation"),
        )
        lines = capsys.readouterr().out.splitlines()
        assert max(map(len, lines)) <= 80
        return [[cell.strip() for cell in line.strip("│").split("│")] for line in lines if line.startswith("│")]

    return rows


@pytest.mark.parametrize(
    ("extractor", "champion"), [("digits", "3"), ("an_extractor_of_a_long_name", "2"), ("a", None)]
)
def test_the_table_at_the_end_decides_first(extractor: str, champion: str | None, printed: Callable[..., Rows]) -> None:
    rows = printed(extractor, champion)
    assert all(name for name, text in rows if not re.search("python|activate|mlflow", text))  # no row takes two lines
    decision, fid, third, *_ = rows
    assert decision == ["decision", "refused: because [low]"]
    assert fid[0].startswith("fid")
    assert "[2." in fid[1]
    assert third == ["champion", f"version {champion}"]
    assert dict(rows)["snapshot"] == "it [is] so"
    better = {name: re.search("lower|higher|no better", text) for name, text in rows}
    wanted = {metric: "lower" if lower else "higher" for metric, lower in LOWER_IS_BETTER.items()}
    wanted |= dict.fromkeys(TYPICAL, "no better")  # which are above those of real images here
    of_metric = {metric: better.get(f"{metric}_{extractor}", better.get(metric)) for metric in wanted}
    assert {metric: word and word[0] for metric, word in of_metric.items()} == wanted
    commands = [text.split()[:3] for _, text in rows if "-m" in text]
    assert len(commands) == 1 + (champion == "2")
    assert any(text.startswith("make ui") for _, text in rows)


@pytest.mark.parametrize(("trivial", "is_poor"), [(None, False), (0.9, True), (1.1, False)])
@pytest.mark.parametrize("few_images", [True, False])
def test_whoever_reads_that_all_bounds_hold_reads_that_the_pictures_cannot_be_good(
    trivial: float | None,
    is_poor: bool,
    few_images: bool,
    every_score: Callable[[str], Evaluation],
    printed: Callable[..., Rows],
) -> None:
    scores = every_score("a").scores
    worst = None if trivial is None else trivial * scores["fid"].over_banks.mean
    scored = {"fid": replace(scores["fid"], trivial=worst)}
    rows = dict(printed("a", None, scores=scores | scored, few_images=few_images))
    assert ("pictures" in rows) == is_poor
    assert ("few images" in rows) == few_images


@pytest.mark.parametrize(
    "remedy", ["", "add training images, raise r1_gamma, and much more that takes several lines here"]
)
def test_outside_the_bounds_the_table_says_what_to_do(remedy: str, printed: Callable[..., Rows]) -> None:
    inside = dict(printed("a", None, remedy=remedy))
    assert ("try" in inside) == bool(remedy)
    assert not any("commands.promote" in text for text in inside.values())
    rows = printed("a", None, within=False, remedy=remedy)
    assert [name for name, _ in rows].count("try") == 1
    assert remedy in " ".join(text for _, text in rows)
    assert rows[-1][1] == 'python -m commands.promote promote 3 --reason "..."'


def test_a_training_that_still_improves_gets_the_command_for_a_longer_one(printed: Callable[..., Rows]) -> None:
    for trend, offered in (("better", True), ("level", False), ("worse", False)):
        commands = [text for _, text in printed("a", None, trend=trend)]
        assert any(text.startswith("dvc exp run -S train.steps=1200") for text in commands) == offered
