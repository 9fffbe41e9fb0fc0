"""Comparisons of models that are made up, so that every verdict is known beforehand."""

from copy import deepcopy
from dataclasses import replace
from typing import Any

import pytest

from gan_core.metrics.intervals import Interval, p_value
from mlops.project.errors import UserError
from mlops.scoring.comparison import compare, direction, explanation, sentence, shown_interval, summary
from mlops.scoring.evaluation import LOWER_IS_BETTER, Score
from mlops.scoring.passport import PassportError
from tests.mlops.scoring.made import PASSPORT, evaluation


@pytest.mark.parametrize("metric", LOWER_IS_BETTER)
def test_lower_is_better_of_distances_alone(metric: str) -> None:
    low, high = evaluation(1.0), evaluation(2.0, seed=1)
    distance = metric in {"fid", "kid", "mind", "near_copies"}
    for first, other, better in ((high, low, distance), (low, high, not distance)):
        outcome = compare(first, other, metric, "sampling", 0.05).outcome
        assert outcome.verdict == ("better" if better else "worse")
        values = first.values(metric, "sampling"), other.values(metric, "sampling")
        assert outcome.p_value == p_value(*values, lower_is_better=distance)


def test_seed_to_seed_variance_hides_what_sampling_noise_shows() -> None:
    first, other = evaluation(1.0, seed=4, trainings=5, spread=0.5), evaluation(1.0, seed=3, trainings=5, spread=0.5)
    assert compare(first, other, "fid", "sampling", 0.05).outcome.verdict != "cannot tell"
    assert compare(first, other, "fid", "seeds", 0.05).outcome.verdict == "cannot tell"
    with pytest.raises(UserError, match=r"model 1 .*replicate\.seeds"):
        compare(first, evaluation(1.0, seed=1), "fid", "seeds", 0.05)


def test_every_metric_that_both_have_is_compared_the_deciding_one_first() -> None:
    first, other = evaluation(3.0), evaluation(2.0, seed=1)
    assert list(compare(first, other, "is", "sampling", 0.05).outcomes) == [
        "is",
        *(name for name in LOWER_IS_BETTER if name != "is"),
    ]
    older = replace(first, banks=first.banks[["training", "bank", "fid", "kid"]])
    assert list(compare(older, other, "kid", "sampling", 0.05).outcomes) == ["kid", "fid"]
    with pytest.raises(UserError, match=r"recall .*: fid, kid"):
        compare(older, other, "recall", "sampling", 0.05)


def test_a_sentence_has_names_verdict_and_numbers() -> None:
    same: dict[str, Any] = dict.fromkeys([*LOWER_IS_BETTER][1:], 0.5)
    first, other = evaluation(3.0, **same), evaluation(2.0, seed=1, **same | {"recall": 0.4, "is": 9.0})
    text = sentence(compare(first, other, "fid", "sampling", 0.05).renamed("version 1", "version 2"))
    shown = [shown_interval(model.scores["fid"].over_banks) for model in (other, first)]
    assert text.startswith(f"Version 2 is better than version 1 in fid_digits: {shown[0]} against {shown[1]}.")
    assert text.endswith("better in is_digits; worse in recall_digits.")
    unclear = sentence(compare(first, replace(first, name="other"), "fid", "sampling", 0.05))
    assert "cannot tell in fid_digits" in unclear
    assert "is_digits" not in unclear


def test_a_summary_has_the_metric_of_real_images_beside_it() -> None:
    model = evaluation(3.0)
    assert summary(model, "fid") == (
        f"Model 0 has fid_digits {shown_interval(model.scores['fid'].over_banks)}, real test images 0.5"
    )


@pytest.mark.parametrize(
    ("mean", "half", "expected"),
    [
        (2.4251, 0.105, "2.43 [2.32, 2.53]"),
        (0.00101, 0.00027, "0.00101 [0.00074, 0.00128]"),
        (241.23, 2.1, "241.2 [239.1, 243.3]"),
        (1234.5, 99.0, "1234 [1136, 1334]"),
        (1.0, 0.0, "1.000 [1.000, 1.000]"),
    ],
)
def test_an_interval_is_shown_with_two_digits_of_its_half_width(mean: float, half: float, expected: str) -> None:
    assert shown_interval(Interval(mean, mean - half, mean + half)) == expected


@pytest.mark.parametrize("path", [("extractor", "name"), ("settings", "seed"), ("device",)])
def test_other_passports_are_refused_and_the_field_is_named(path: tuple[str, ...]) -> None:
    passport = deepcopy(PASSPORT)
    section = passport
    for name in path[:-1]:
        section = section[name]
    section[path[-1]] = "other"
    field = ".".join(path)
    with pytest.raises(PassportError, match=rf"model 0 and model 1 .*\n  {field}: .* and other"):
        compare(evaluation(1.0), evaluation(1.0, seed=1, passport=passport), "fid", "sampling", 0.05)


def test_a_score_that_hardly_varies_in_one_model_is_compared_without_a_warning() -> None:
    first = evaluation(3.0, recall=[0.9, 1.0] * 3)
    other = evaluation(3.0, seed=1, recall=[0.1 + 0.2] * 5 + [0.3])
    assert compare(first, other, "fid", "sampling", 0.05).outcomes["recall"].verdict == "worse"


def test_few_images_are_in_the_explanation() -> None:
    first, few = evaluation(3.0), evaluation(2.0, seed=1, few_images=True)
    assert "FEW IMAGES" not in explanation([compare(first, first, "fid", "sampling", 0.05)])
    assert "FEW IMAGES" in explanation([compare(first, few, "fid", "sampling", 0.05)])


@pytest.mark.parametrize("metric", LOWER_IS_BETTER)
def test_more_typical_than_real_images_is_no_better(metric: str) -> None:
    """Blobs have a precision of 0.94 where real photographs have 0.76."""
    above, like = (Score(Interval(mean, mean - 0.01, mean + 0.01), real=0.76) for mean in (0.94, 0.765))
    usual = "lower" if LOWER_IS_BETTER[metric] else "higher"
    assert direction(metric) == direction(metric, like) == usual
    assert direction(metric, above) == ("neither" if metric in ("is", "precision", "density") else usual)
