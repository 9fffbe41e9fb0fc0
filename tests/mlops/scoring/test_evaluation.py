import copy
import dataclasses
from typing import Any

import numpy as np
import pandas as pd
import pytest

from gan_core.metrics.intervals import p_value
from mlops.project.errors import UserError
from mlops.scoring.evaluation import LOWER_IS_BETTER, Evaluation, compare
from mlops.scoring.passport import PassportError

PASSPORT = {"extractor": {"kind": "classifier", "name": "digits"}, "settings": {"banks": 6}}


def evidence(mean: float, *, seed: int = 0, trainings: int = 1, spread: float = 0.0) -> Evaluation:
    """Return six banks of each training around a mean; trainings lie `spread` apart."""
    rng = np.random.default_rng(seed)
    rows = [
        {"training": training, "bank": bank} | {f"{metric}_digits": value for metric in LOWER_IS_BETTER}
        for training, centre in enumerate(mean + spread * rng.standard_normal(trainings))
        for bank, value in enumerate(centre + 0.1 * rng.standard_normal(6))
    ]
    return Evaluation(f"model {seed}", {}, PASSPORT, pd.DataFrame(rows))


@pytest.mark.parametrize("metric", LOWER_IS_BETTER)
def test_lower_is_better_of_distances_alone(metric: str) -> None:
    low, high = evidence(1.0), evidence(2.0, seed=1)
    distance = metric in {"fid", "kid", "near_copies"}
    assert compare(high, low, metric, noise="sampling", rate=0.05).verdict == ("better" if distance else "worse")
    assert compare(low, high, metric, noise="sampling", rate=0.05).verdict == ("worse" if distance else "better")


def test_resampling_compares_the_banks_of_the_models_own_training() -> None:
    first, second = evidence(1.0, trainings=3), evidence(1.05, seed=1, trainings=3)
    own = [list(model.banks.fid_digits[:6]) for model in (first, second)]
    found = compare(first, second, "fid", noise="sampling", rate=0.05)
    assert found.p_value == p_value(*own, lower_is_better=True)


def test_retraining_compares_the_means_of_trainings() -> None:
    first, second = evidence(1.0, trainings=4, spread=0.5), evidence(0.9, seed=1, trainings=5, spread=0.5)
    means = [model.banks.fid_digits.to_numpy().reshape(-1, 6).mean(axis=1) for model in (first, second)]
    found = compare(first, second, "fid", noise="seeds", rate=0.05)
    assert found.p_value == pytest.approx(p_value(*means, lower_is_better=True), rel=1e-12)


def test_the_luck_of_seeds_is_looked_through_only_with_retrainings() -> None:
    lucky, usual = evidence(1.0, seed=3, trainings=5, spread=0.5), evidence(1.0, seed=4, trainings=5, spread=0.5)
    assert compare(usual, lucky, "fid", noise="sampling", rate=0.05).verdict != "cannot tell"
    assert compare(usual, lucky, "fid", noise="seeds", rate=0.05).verdict == "cannot tell"


def test_a_model_that_was_trained_once_has_no_noise_of_retraining() -> None:
    with pytest.raises(UserError, match=r"model 1 was trained once.*replicate\.seeds"):
        compare(evidence(1.0, trainings=2), evidence(1.0, seed=1), "fid", noise="seeds", rate=0.05)


def test_an_interval_stays_within_what_a_metric_can_be() -> None:
    near_zero, near_one = evidence(0.01), evidence(0.99)
    assert near_zero.interval("precision", "sampling").low == 0
    assert near_one.interval("recall", "sampling").high == 1
    assert near_one.interval("fid", "sampling").high > 1
    assert near_zero.interval("kid", "sampling").low < 0
    assert near_one.interval("is", "sampling").low == 1


@pytest.mark.parametrize(("section", "key"), [("extractor", "name"), ("settings", "banks")])
def test_other_passports_are_refused(section: str, key: str) -> None:
    papers: dict[str, Any] = copy.deepcopy(PASSPORT)
    papers[section][key] = "another"
    other = dataclasses.replace(evidence(1.0, seed=1), passport=papers)
    with pytest.raises(PassportError, match=rf"model 0 and model 1 .*\n  {section}\.{key}: .* and another"):
        compare(evidence(1.0), other, "fid", noise="sampling", rate=0.05)
