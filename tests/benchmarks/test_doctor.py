"""One seed of what `python -m benchmarks.doctor` plays with many."""

from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import pytest

from benchmarks.doctor import PLANTED, Outcome, TrainingRun, play, show
from gan_core.doctor import FAILURES, HEALTHY

EVIDENCE = {
    "divergence": "d_grad_norm",
    "vanished generator gradient": "g_signal",
    "stalled": "g_update_ratio",
    "mode collapse": "variety",
    "discriminator overfitting": "overfitting",
    HEALTHY: "variety",
}
GAMES = [
    *(TrainingRun(name, "digits", 2, steps) for name, (_, steps) in PLANTED.items()),
    TrainingRun(HEALTHY, "ring", 2, 3000),
]


@pytest.fixture(scope="module")
def outcomes() -> dict[str, Outcome]:
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        return {outcome.game.planted: outcome for outcome in pool.map(play, GAMES)}


def test_every_failure_is_planted() -> None:
    assert set(PLANTED) == {failure.name for failure in FAILURES}


@pytest.mark.slow
@pytest.mark.parametrize("planted", [game.planted for game in GAMES])
def test_the_doctor_finds_what_was_planted(planted: str, outcomes: dict[str, Outcome]) -> None:
    found = outcomes[planted]
    assert found.diagnosis.verdict == planted, found.diagnosis.sentence
    assert found.warnings == ([] if planted == HEALTHY else [planted])
    assert EVIDENCE[planted] in found.diagnosis.evidence


@pytest.mark.slow
def test_the_table_names_what_was_misjudged(outcomes: dict[str, Outcome], capsys: pytest.CaptureFixture[str]) -> None:
    show(list(outcomes.values()))
    assert "misjudged" not in capsys.readouterr().out
    wrong = Outcome(TrainingRun(HEALTHY, "digits", 9, 1), outcomes["stalled"].diagnosis, ["stalled"], 0.01)
    show([*outcomes.values(), wrong])
    assert "misjudged: TrainingRun(planted='healthy', data='digits', seed=9" in capsys.readouterr().out
