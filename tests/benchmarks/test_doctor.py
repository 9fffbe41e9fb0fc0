"""One seed of what `python -m benchmarks.doctor` runs with many."""

from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import pytest

from benchmarks.doctor import PLANTED, Case, Outcome, run, show
from gan_core.doctor import FAILURES, HEALTHY

EVIDENCE = {
    "divergence": "d_grad_norm",
    "vanished generator gradient": "g_signal",
    "stalled": "g_update_ratio",
    "mode collapse": "variety",
    "the discriminator has won": "unseen_prob",
    "discriminator overfitting": "overfitting",
    "leaked augmentation": "leaked",
    HEALTHY: "variety",
}
CASES = [
    *(Case(name, "digits", 2, steps) for name, (_, steps) in PLANTED.items()),
    Case(HEALTHY, "ring", 2, 3000),
]


@pytest.fixture(scope="module")
def outcomes() -> dict[str, Outcome]:
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        return {outcome.case.planted: outcome for outcome in pool.map(run, CASES)}


def test_every_failure_is_planted() -> None:
    assert set(PLANTED) == {*(failure.name for failure in FAILURES), "leaked augmentation"}


@pytest.mark.slow
@pytest.mark.parametrize("planted", [case.planted for case in CASES])
def test_the_doctor_recognises_what_was_planted(planted: str, outcomes: dict[str, Outcome]) -> None:
    outcome = outcomes[planted]
    assert outcome.diagnosis.verdict == planted, outcome.diagnosis.sentence
    seen_in_training = planted not in (HEALTHY, "leaked augmentation")
    assert outcome.warnings == ([planted] if seen_in_training else [])
    assert EVIDENCE[planted] in outcome.diagnosis.evidence


@pytest.mark.slow
def test_the_table_names_what_was_misjudged(outcomes: dict[str, Outcome], capsys: pytest.CaptureFixture[str]) -> None:
    show(list(outcomes.values()))
    assert "misjudged" not in capsys.readouterr().out
    wrong = Outcome(Case(HEALTHY, "digits", 9, 1), outcomes["stalled"].diagnosis, ["stalled"], 0.01)
    show([*outcomes.values(), wrong])
    assert "misjudged: Case(planted='healthy', data='digits', seed=9" in capsys.readouterr().out
