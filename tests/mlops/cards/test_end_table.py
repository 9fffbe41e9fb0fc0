import re
from collections.abc import Callable
from pathlib import Path

import pytest

from mlops.cards.end_table import print_end
from mlops.scoring.evaluation import LOWER_IS_BETTER, Evaluation


@pytest.mark.parametrize(
    ("extractor", "champion"), [("digits", "3"), ("an_extractor_of_a_long_name", "2"), ("a", None)]
)
def test_the_table_at_the_end_decides_first_and_fits_80_columns(
    extractor: str,
    champion: str | None,
    every_score: Callable[[str], Evaluation],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    place = {"decision": "refused", "reason": "because [low]", "model": "m", "version": "3", "within_bounds": True}
    print_end(every_score(extractor), place, f"version {champion}", champion, "healthy", Path("evaluation"))
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    rows = [[cell.strip() for cell in line.strip("│").split("│")] for line in lines if line.startswith("│")]
    assert all(name for name, text in rows if "python" not in text and "activate" not in text)  # no row takes two lines
    decision, fid, third, *_ = rows
    assert decision == ["decision", "refused: because [low]"]
    assert fid[0].startswith("fid")
    assert "[2." in fid[1]
    assert third == ["champion", f"version {champion}"]
    better = {name: re.search("lower|higher", text) for name, text in rows}
    wanted = {metric: "lower" if lower else "higher" for metric, lower in LOWER_IS_BETTER.items()}
    of_metric = {metric: better.get(f"{metric}_{extractor}", better.get(metric)) for metric in wanted}
    assert {metric: word and word[0] for metric, word in of_metric.items()} == wanted
    commands = [text.split()[:3] for _, text in rows if "-m" in text]
    assert len(commands) == 1 + (champion == "2")
    assert any(text.startswith("make ui") for _, text in rows)
