import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from mlops.promotion.decision import judge, recall, record
from mlops.promotion.history import ModelId, replay
from mlops.promotion.ledger import Ledger, locked_ledger
from mlops.scoring.comparison import compare
from tests.decisions import PASSPORT, RULES, decision, found, who

OTHER: dict[str, Any] = PASSPORT | {"device": "cuda"}
MODEL = RULES.model_name


@pytest.fixture
def ledger(root: Path) -> Iterator[Ledger]:
    with locked_ledger() as held:
        yield held


def champion(ledger: Ledger) -> ModelId | None:
    return replay(ledger.entries, MODEL).champion


def judged(
    ledger: Ledger, name: str, fid: float, passport: dict[str, Any] = PASSPORT, trainings: int = 1, **rules: Any
) -> str:
    """Let the gate decide on a candidate of this name and FID."""
    evaluation = found(fid, passport, trainings)
    return judge(ledger, who(name, passport), evaluation, replace(RULES, **rules), "c0ffee").action


def test_a_better_candidate_takes_the_place_and_a_worse_one_does_not(ledger: Ledger) -> None:
    assert [judged(ledger, "a", 2.5), judged(ledger, "b", 2.6), judged(ledger, "c", 2.4)] == [
        "promoted",
        "refused",
        "promoted",
    ]
    assert champion(ledger) == who("c")
    evidence = ledger.entries[-1].evidence
    assert evidence is not None
    assert evidence["test"]["p_value"] < 0.05
    assert evidence["passport"] == PASSPORT
    assert [bound["holds"] for bound in evidence["bounds"]] == [True] * 3
    assert (evidence["commit"], evidence["register"]["metric"]) == ("c0ffee", "fid")


def test_the_same_candidate_is_decided_once(ledger: Ledger) -> None:
    for name, fid in (("a", 2.5), ("a", 2.5), ("b", 2.6), ("b", 2.6)):
        judged(ledger, name, fid)
    assert len(ledger.entries) == 2


def test_the_same_candidate_is_decided_again_under_other_rules_or_before_another_champion(ledger: Ledger) -> None:
    judged(ledger, "a", 2.5)
    assert judged(ledger, "b", 2.4, max_fid_to_trivial=0.05) == "refused"
    assert judged(ledger, "x", 2.6) == "refused"
    assert judged(ledger, "b", 2.4) == "promoted"
    assert judged(ledger, "x", 2.6) == "refused"
    assert [entry.candidate for entry in ledger.entries] == [who(name) for name in "abxbx"]


def test_a_rollback_is_not_undone_by_the_next_run_of_the_pipeline(ledger: Ledger) -> None:
    for name, fid in (("a", 2.7), ("b", 2.6), ("c", 2.5)):
        judged(ledger, name, fid)
    ledger.append("rolled back", MODEL, who("a"), "c has artefacts")
    assert judged(ledger, "c", 2.5) == "former champion"
    assert champion(ledger) == who("a")


def test_another_passport_is_refused_until_the_champion_is_scored_under_it(ledger: Ledger) -> None:
    judged(ledger, "a", 2.5)
    assert judged(ledger, "b", 1.0, OTHER) == "refused"
    reason = ledger.entries[-1].reason
    assert "device: cpu and cuda" in reason
    assert "decision 1 of ledger.jsonl, commit c0ffee" in reason
    assert judged(ledger, "a", 2.5, OTHER) == "scored again"
    assert "device: cpu and cuda" in ledger.entries[-1].reason
    assert champion(ledger) == ledger.entries[-1].champion_after == who("a", OTHER)
    assert judged(ledger, "a", 2.5, OTHER) == "scored again"
    assert judged(ledger, "a", 2.5) == "scored again"
    assert judged(ledger, "b", 1.0, OTHER) == "promoted"
    assert len(ledger.entries) == 4
    assert replay(ledger.entries, MODEL).previous == who("a", OTHER)


def test_a_champion_scored_again_before_its_passport_was_followed_decides_nothing_again(ledger: Ledger) -> None:
    judged(ledger, "a", 2.5)
    judged(ledger, "a", 2.5, OTHER)
    judged(ledger, "x", 2.6, OTHER)
    *_, scored, refused = ledger.entries
    ledger.entries[1:] = [replace(scored, champion_after=who("a")), replace(refused, champion_before=who("a"))]
    assert judged(ledger, "x", 2.6, OTHER) == "refused"
    assert judged(ledger, "a", 2.5, OTHER) == "scored again"
    assert len(ledger.entries) == 3


def test_trainings_under_other_seeds_reach_the_ledger_when_they_come_later(ledger: Ledger) -> None:
    judged(ledger, "a", 2.5)
    assert judged(ledger, "b", 2.4, noise="seeds") == "refused"
    assert "replicate.seeds" in ledger.entries[-1].reason
    assert judged(ledger, "a", 2.5, trainings=4) == "scored again"
    assert judged(ledger, "b", 2.4, noise="seeds") == "refused"
    assert judged(ledger, "b", 2.4, trainings=4, noise="seeds") == "promoted"
    assert judged(ledger, "b", 2.4, noise="seeds") == "promoted"  # fewer trainings say nothing new
    assert len(ledger.entries) == 5


def test_scores_under_the_first_passport_are_still_remembered(ledger: Ledger) -> None:
    judged(ledger, "a", 2.5)
    judged(ledger, "a", 2.5, OTHER)
    assert judged(ledger, "b", 2.4) == "promoted"


def test_a_champion_without_scores_in_the_ledger_refuses_until_it_is_scored(ledger: Ledger) -> None:
    ledger.append("promoted by hand", MODEL, who("a"), "older than the ledger")
    assert judged(ledger, "b", 1.0) == "refused"
    assert judged(ledger, "a", 2.5) == "scored again"
    assert judged(ledger, "b", 1.0) == "promoted"


def test_what_the_ledger_keeps_decides_as_what_was_measured(ledger: Ledger) -> None:
    old, new = found(2.5, trainings=4, name="old"), found(2.495, trainings=4)
    judge(ledger, who("a"), old, RULES, "")
    again = recall(ledger.entries, MODEL, who("a"), "any")
    assert again is not None
    pd.testing.assert_frame_equal(again.banks, old.banks)
    assert replace(again, name="old", banks=old.banks) == old
    for noise in ("sampling", "seeds"):
        kept, measured = (compare(model, new, "fid", noise, 0.05).outcomes for model in (again, old))
        assert kept == measured
        assert kept.keys() == {"fid", "kid", "near_copies"}
    assert recall(ledger.entries, MODEL, who("b"), "any") is None


def test_a_record_is_json_without_gaps() -> None:
    evaluation = found(2.5, trainings=2)
    kept = json.loads(
        json.dumps(record(evaluation, decision(evaluation, found(2.6)), RULES, "c0ffee"), allow_nan=False)
    )
    assert kept["banks"].keys() == {"fid_digits", "kid_digits", "near_copies_digits"}
    assert [len(values) for values in kept["banks"]["fid_digits"]] == [6, 6]
    assert kept["test"].keys() == {"metric", "noise", "rate", "verdict", "p_value", "champion", "candidate"}
    assert kept["test"]["candidate"]["mean"] == kept["scores"]["fid_digits"]["mean"]


def test_the_champion_is_compared_with_the_one_that_it_replaced(ledger: Ledger) -> None:
    """So that a second run writes the same card."""

    def opponent(name: str, fid: float) -> tuple[ModelId | None, Any]:
        met = judge(ledger, who(name), found(fid), RULES, "c0ffee").challenge
        return (met.champion, met.comparison and met.comparison.outcomes) if met else (None, None)

    assert opponent("a", 2.6) == opponent("a", 2.6) == (None, None)
    first = opponent("b", 2.5)
    assert first[0] == who("a")
    assert opponent("b", 2.5) == first
    assert opponent("a", 2.6)[0] == who("b")


def test_more_banks_are_scored_again_and_fewer_decide_nothing(ledger: Ledger) -> None:
    def action(name: str, fid: float, banks_each: int) -> str:
        return judge(ledger, who(name), found(fid, banks_each=banks_each), RULES, "c0ffee").action

    assert [action("a", 2.5, 6), action("b", 2.6, 6)] == ["promoted", "refused"]
    assert [action("a", 2.5, 3), action("b", 2.6, 3)] == ["promoted", "refused"]
    assert len(ledger.entries) == 2
    assert action("a", 2.5, 12) == "scored again"
    assert "1 x 12 trainings x banks are scored, 1 x 6 were" in ledger.entries[-1].reason
    assert [action("a", 2.5, 12), action("b", 2.6, 12)] == ["scored again", "refused"]
    assert [entry.action for entry in ledger.entries] == ["promoted", "refused", "scored again", "refused"]
    assert action("c", 2.4, 3) == "promoted"
