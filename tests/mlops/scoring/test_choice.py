from pathlib import Path

import pytest
import torch

from gan_core.metrics.kid import Kid
from gan_core.runtime.randomness import stream
from mlops.project.result_files import load_curve, load_json
from mlops.scoring.choice import ABOVE, Trend, best_step, choice_of, chosen_step, curve, trend, write_choice

STEPS = range(100, 1100, 100)


def scored(*values: float, noise: float = 1e-4) -> dict[int, Kid]:
    """Return made-up scores of snapshots, whose differences have a deviation of about `noise`."""
    changes = torch.randn(len(values), 2, 400, generator=stream(0, "changes"), dtype=torch.float64) * noise * 10
    return {step: Kid(value, *pair) for step, value, pair in zip(STEPS, values, changes, strict=False)}


RISING = scored(*[0.05] * 5, 0.01, *[0.05] * 4)
FALLING = scored(*[1 / step for step in STEPS], noise=1e-5)
LEVEL = scored(0.05, 0.03, *[0.01 + 1e-6 * (step % 3) for step in range(8)])


@pytest.mark.parametrize(("kids", "best", "state"), [(RISING, 600, "worse"), (FALLING, 1000, "better")])
def test_the_best_and_the_trend_are_those_of_significant_differences(
    kids: dict[int, Kid], best: int, state: Trend
) -> None:
    assert (best_step(kids), trend(kids)) == (best, state)


def test_of_equally_good_ones_it_is_the_last_and_no_longer_improves() -> None:
    assert min(LEVEL, key=lambda step: LEVEL[step].value) != 1000
    assert (best_step(LEVEL), trend(LEVEL)) == (1000, "level")


def test_one_of_many_needs_stronger_evidence_than_one_of_two() -> None:
    two = scored(0.0, 0.00021)
    assert best_step(two) == 100
    many = {step: two[100] if step == 500 else two[200] for step in STEPS}
    assert best_step(many) == 1000


def test_one_snapshot_or_none_has_no_trend() -> None:
    assert trend({}) == trend(scored(0.1)) == "unknown"
    assert chosen_step({}, 700, "best") == 700
    assert choice_of({}, 700, "best", metric="kid", real=2)["step"] == 700


@pytest.mark.parametrize("kids", [RISING, FALLING, LEVEL])
def test_last_is_the_last_and_best_the_best_and_the_sentence_has_the_step(kids: dict[int, Kid]) -> None:
    for checkpoint, step in (("last", 1000), ("best", best_step(kids))):
        facts = choice_of(kids, 1000, checkpoint, metric="kid_x", real=9)  # type: ignore[arg-type]  # one of two
        assert (facts["step"], facts["trend"], facts["checkpoint"]) == (step, trend(kids), checkpoint)
        assert f"the generator is that of step {step:,}" in facts["sentence"]


def test_a_better_one_that_is_not_chosen_is_named_with_the_remedy() -> None:
    sentence = choice_of(RISING, 1000, "last", metric="kid_x", real=9)["sentence"]
    assert {"600", "choose.checkpoint"} <= set(sentence.split())
    assert "since step 600" in choice_of(LEVEL, 1000, "last", metric="kid", real=9)["sentence"]


def test_files_have_what_was_written(tmp_path: Path) -> None:
    facts = choice_of(RISING, 1000, "last", metric="kid_x", real=9)
    write_choice(tmp_path / "choice", RISING, facts)
    assert load_json(tmp_path / "choice" / "choice.json") == facts
    assert load_curve(tmp_path / "choice", "kid_x") == {step: kid.value for step, kid in RISING.items()}
    *rows, last = curve(RISING, "kid_x")
    assert [last[name] for name in ABOVE] == [0, 0, 0]
    for row in rows:
        assert row["low"] < row["above_last"] < row["high"]
        assert row["above_last"] == pytest.approx(row["kid_x"] - last["kid_x"])
