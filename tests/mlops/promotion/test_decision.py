import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from mlops.promotion.decision import judge, recall, record
from mlops.promotion.gate import decide
from mlops.promotion.history import ModelId, replay
from mlops.promotion.ledger import Ledger, locked_ledger
from tests.decisions import PASSPORT, RULES, found, who

OTHER: dict[str, Any] = PASSPORT | {"device": "cuda"}
MODEL = RULES.model_name


@pytest.fixture
def ledger(root: Path) -> Iterator[Ledger]:
    with locked_ledger() as held:
        yield held


def champion(ledger: Ledger) -> ModelId | None:
    return replay(ledger.entries, MODEL).champion


def said(
    ledger: Ledger, name: str, fid: float, passport: dict[str, Any] = PASSPORT, trainings: int = 1, **rules: Any
) -> str:
    """Let the gate decide on a candidate of this name and FID."""
    evidence = found(fid, passport, trainings)
    return judge(ledger, who(name, passport), evidence, replace(RULES, **rules), "c0ffee")[0]


def test_a_better_candidate_takes_the_place_and_a_worse_one_does_not(ledger: Ledger) -> None:
    assert [said(ledger, "a", 2.5), said(ledger, "b", 2.6), said(ledger, "c", 2.4)] == [
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
        said(ledger, name, fid)
    assert len(ledger.entries) == 2


def test_the_same_candidate_is_decided_again_under_other_rules_or_before_another_champion(ledger: Ledger) -> None:
    said(ledger, "a", 2.5)
    assert said(ledger, "b", 2.4, max_fid_ratio_to_real=1.0) == "refused"
    assert said(ledger, "x", 2.6) == "refused"
    assert said(ledger, "b", 2.4) == "promoted"
    assert said(ledger, "x", 2.6) == "refused"
    assert [entry.candidate for entry in ledger.entries] == [who(name) for name in "abxbx"]


def test_a_rollback_is_not_undone_by_the_next_run_of_the_pipeline(ledger: Ledger) -> None:
    for name, fid in (("a", 2.7), ("b", 2.6), ("c", 2.5)):
        said(ledger, name, fid)
    ledger.append("rolled back", MODEL, who("a"), "c has artefacts")
    assert said(ledger, "c", 2.5) == "former champion"
    assert champion(ledger) == who("a")


def test_another_passport_is_refused_until_the_champion_is_scored_under_it(ledger: Ledger) -> None:
    said(ledger, "a", 2.5)
    assert said(ledger, "b", 1.0, OTHER) == "refused"
    reason = ledger.entries[-1].reason
    assert "device: cpu and cuda" in reason
    assert "decision 1 of ledger.jsonl, commit c0ffee" in reason
    assert said(ledger, "a", 2.5, OTHER) == "scored again"
    assert champion(ledger) == who("a")
    assert said(ledger, "a", 2.5, OTHER) == "scored again"
    assert said(ledger, "b", 1.0, OTHER) == "promoted"
    assert len(ledger.entries) == 4


def test_trainings_under_other_seeds_reach_the_ledger_when_they_come_later(ledger: Ledger) -> None:
    said(ledger, "a", 2.5)
    assert said(ledger, "b", 2.4, noise="seeds") == "refused"
    assert "trained once" in ledger.entries[-1].reason
    assert said(ledger, "a", 2.5, trainings=4) == "scored again"
    assert said(ledger, "b", 2.4, noise="seeds") == "refused"
    assert said(ledger, "b", 2.4, trainings=4, noise="seeds") == "promoted"
    assert said(ledger, "b", 2.4, noise="seeds") == "promoted"  # fewer trainings say nothing new
    assert len(ledger.entries) == 5


def test_scores_under_the_first_passport_are_still_remembered(ledger: Ledger) -> None:
    said(ledger, "a", 2.5)
    said(ledger, "a", 2.5, OTHER)
    assert said(ledger, "b", 2.4) == "promoted"


def test_a_champion_without_scores_in_the_ledger_refuses_until_it_is_scored(ledger: Ledger) -> None:
    ledger.append("promoted by hand", MODEL, who("a"), "older than the ledger")
    assert said(ledger, "b", 1.0) == "refused"
    assert "no scores of the champion" in ledger.entries[-1].reason
    assert said(ledger, "a", 2.5) == "scored again"
    assert said(ledger, "b", 1.0) == "promoted"


def test_what_the_ledger_remembers_decides_as_what_was_measured(ledger: Ledger) -> None:
    old, new = found(2.5, trainings=4, name="old"), found(2.495, trainings=4)
    judge(ledger, who("a"), old, RULES, "")
    again = recall(ledger.entries, MODEL, who("a"), "any")
    assert again is not None
    for column in ("training", "bank", "fid_digits", "kid_digits"):
        pd.testing.assert_series_equal(again.banks[column], old.banks[column])
    assert (again.passport, again.scores) == (old.passport, old.scores)
    for noise in ("sampling", "seeds"):
        rules = replace(RULES, noise=noise)
        assert decide(new, again, rules).comparison == decide(new, old, rules).comparison
    assert recall(ledger.entries, MODEL, who("b"), "any") is None


def test_a_record_is_json_without_gaps() -> None:
    evidence = found(2.5, trainings=2)
    kept = record(evidence, decide(evidence, found(2.6), RULES), RULES, "c0ffee")
    assert json.loads(json.dumps(kept, allow_nan=False))["banks"].keys() == {"fid_digits", "kid_digits"}
    assert [len(values) for values in kept["banks"]["fid_digits"]] == [6, 6]
