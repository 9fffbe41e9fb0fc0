"""A line that the gate wrote when scores were flat and it kept the banks of FID and KID alone."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from commands.promote import set_champion
from mlops.promotion.decision import judge, recall
from mlops.promotion.history import ModelId, replay
from mlops.promotion.ledger import LEDGER, Ledger, locked_ledger
from mlops.scoring.evaluation import LOWER_IS_BETTER, Evaluation
from mlops.tracking.runs import connect
from mlops.tracking.versions import champion
from tests.decisions import RULES, add_version, found, write_params

LINE = Path(__file__).parents[2] / "data" / "ledger_of_before.jsonl"


@pytest.fixture
def ledger(root: Path) -> Iterator[Ledger]:
    (root / LEDGER).write_bytes(LINE.read_bytes())
    with locked_ledger() as held:
        yield held


def reigning(ledger: Ledger) -> ModelId:
    model_id = replay(ledger.entries, RULES.model_name).champion
    assert model_id is not None
    return model_id


def kept(ledger: Ledger) -> Evaluation:
    evaluation = recall(ledger.entries, RULES.model_name, reigning(ledger), "any")
    assert evaluation is not None
    return evaluation


def test_its_scores_are_read_with_all_their_bits(ledger: Ledger) -> None:
    evaluation, flat = kept(ledger), json.loads(LINE.read_text())["evidence"]["scores"]
    assert LOWER_IS_BETTER.keys() - evaluation.scores.keys() == {"mind", "density", "coverage", "label_accuracy"}
    assert (evaluation.passport_sha256, evaluation.images) == (flat["passport"], flat["images"])
    for metric, score in evaluation.scores.items():
        name, own = f"{metric}_digits", score.over_banks
        numbers = [flat[f"{name}{end}"] for end in ("", "_low", "_high", "_of_real")]
        assert [own.mean, own.low, own.high, score.real] == numbers
    ratios = {name: flat[f"fid_digits_{name}"] for name in ("to_real", "to_noise")}
    assert evaluation.scores["fid"].ratios() == ratios
    assert list(evaluation.banks.columns) == ["training", "bank", "fid", "kid"]


def test_the_champion_is_scored_again_and_later_candidates_meet_its_new_scores(ledger: Ledger) -> None:
    before, weights = LINE.read_bytes(), reigning(ledger).weights
    passport = kept(ledger).passport | {"code": "new"}
    scored, better = found(2.4, passport), found(2.3, passport)
    ours = ModelId(weights, scored.passport_sha256, "another key")
    judgement = judge(ledger, ours, scored, RULES, "c0ffee")
    assert (judgement.action, judgement.challenge) == ("scored again", None)
    assert "code: " in judgement.reason
    assert reigning(ledger).weights == weights
    assert ledger.path.read_bytes().startswith(before)
    assert judge(ledger, ours, scored, RULES, "c0ffee").action == "scored again"
    assert len(ledger.entries) == 2
    other = ModelId("b" * 64, scored.passport_sha256, "key")
    met = judge(ledger, other, better, RULES, "c0ffee")
    assert met.challenge is not None
    assert met.challenge.comparison is not None
    assert met.challenge.comparison.outcomes.keys() == {"fid", "kid", "near_copies"}
    assert (met.action, reigning(ledger)) == ("promoted", other)


def test_a_candidate_under_the_old_passport_is_compared_in_what_was_kept(ledger: Ledger) -> None:
    candidate = found(1.0, kept(ledger).passport)
    met = judge(ledger, ModelId("b" * 64, candidate.passport_sha256, "key"), candidate, RULES, "").challenge
    assert met is not None
    assert met.comparison is not None
    assert met.comparison.outcomes.keys() == {"fid", "kid"}


def test_under_another_passport_the_reason_names_what_differs(ledger: Ledger) -> None:
    candidate = found(1.0, kept(ledger).passport | {"code": "new"})
    judgement = judge(ledger, ModelId("b" * 64, candidate.passport_sha256, "key"), candidate, RULES, "")
    assert judgement.action == "refused"
    assert "code: " in judgement.reason


def test_a_rollback_returns_to_its_champion(root: Path) -> None:
    name = "ledger-of-before"
    write_params(root, name)
    (root / LEDGER).write_text(LINE.read_text().replace('"gan-generator"', f'"{name}"'))
    client, _ = connect()
    with locked_ledger() as ledger:
        old = replay(ledger.entries, name).champion
        assert old is not None
        candidate = found(1.0)
        new = ModelId("b" * 64, candidate.passport_sha256, "key")
        ledger.append("promoted by hand", name, new, "a person says so")
        judge(ledger, new, candidate, replace(RULES, model_name=name), "")
    numbers = [add_version(client, name, model_id) for model_id in (old, new)]
    set_champion("rolled back", None, "it was better")
    assert champion(client, name) == str(numbers[0])
