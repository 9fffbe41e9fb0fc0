import json
from pathlib import Path
from typing import Any

import pytest

import flows.retraining.report
from flows.retraining.report import report

STORY = {
    "why": "the images have a new version",
    "changes": "3 images added",
    "drift": "MIND is 2",
    "champion": "scored",
}


def entry(action: str, weights: str, passport: str, mean: float | None, before: str | None = None) -> dict[str, Any]:
    score = {"mean": mean, "low": mean, "high": mean, "real": 1.5}
    return {
        "action": action,
        "model": "gan-x",
        "candidate": {"weights": weights, "passport": passport, "training": "t"},
        "champion_before": before and {"weights": before, "passport": passport, "training": "t"},
        "evidence": None if mean is None else {"scores": {"images": 9, "fid": score, "passport": passport}},
    }


def test_a_report_compares_scores_of_one_passport_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[dict[str, str]] = []
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(flows.retraining.report, "create_markdown_artifact", lambda **content: written.append(content))
    lines = [
        entry("promoted", "old", "former images", 7.0),
        entry("promoted by hand", "old", "former images", None),
        entry("scored again", "old", "new images", 9.0, "old"),
        entry("promoted", "new", "new images", 5.0, "old"),
        {"model": "gan-of-others"},
    ]
    Path("ledger.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    place = {"model": "gan-x", "version": "2", "decision": "promoted", "reason": "better by far"}
    report(STORY, place)
    (page,) = written
    assert page["description"] == "promoted: gan-x version 2; 3 images added"
    assert all(text in page["markdown"] for text in [*STORY.values(), "better by far"])
    assert page["markdown"].splitlines()[-1] == "| fid | 5 [5, 5] | 9 [9, 9] | 1.5 |"
    Path("ledger.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines[:1]))
    report({"why": "no training is finished yet", "champion": "none"}, place)
    assert written[1]["markdown"].splitlines()[-1] == "| fid | 7 [7, 7] |  | 1.5 |"
