import json
from typing import Any

import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prefect.utilities.schema_tools.validation import is_valid
from pydantic import TypeAdapter

from flows.experiment.form import OVERRIDES
from flows.failure import StageFailedError
from flows.sweep.space import Range, Space, distributions, overrides

SCHEDULES: list[Any] = [{"start": 0.1, "end": 0.0, "shape": "cosine", "images": None}, 0.05]
SPACE: Space = {
    "train.generator_learning_rate.start": Range(low=1e-4, high=1e-2, log=True),
    "network.generator_width": Range(low=16, high=64, step=16),
    "train.beta1": Range(low=0, high=0.99996),
    "train.loss": ["hinge", "relativistic"],
    "train.mirror": [True, False],
    "train.r1_gamma": SCHEDULES,
    "train.steps": [60],
}


@given(st.integers(0, 10_000))
def test_whatever_is_proposed_is_of_the_space(seed: int) -> None:
    values = proposed(seed)
    assert values.keys() == SPACE.keys()
    assert values["network.generator_width"] in (16, 32, 48, 64)
    assert isinstance(values["network.generator_width"], int)
    assert 1e-4 <= values["train.generator_learning_rate.start"] <= 1e-2
    assert 0 <= values["train.beta1"] <= 0.99996
    assert values["train.r1_gamma"] in SCHEDULES
    assert values["train.steps"] == 60


def proposed(seed: int) -> dict[str, Any]:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed))
    return overrides(SPACE, study.ask(distributions(SPACE)).params)


def test_what_is_proposed_fits_the_form() -> None:
    values = proposed(0)
    assert is_valid(values, OVERRIDES), values
    assert not is_valid(values | {"train.steps": 0}, OVERRIDES)


def test_a_fixed_value_is_not_searched() -> None:
    assert distributions(SPACE).keys() == SPACE.keys() - {"train.steps"}


@pytest.mark.parametrize(
    ("key", "values", "words"),
    [
        ("train.stepz", [1, 2], "a key of params.yaml"),
        ("train.steps", {"low": 0, "high": 3}, "minimum of 1"),
        ("train.steps", {"low": 1, "high": 3.5}, "not of type 'integer'"),
        ("train.steps", {"low": 1, "high": 9, "step": 0.5}, "step must be whole"),
        ("train.loss", {"low": 0, "high": 1}, "is not one of"),
        ("train.loss", ["hing", "hinge"], "is not one of"),
        ("train.loss", [], "no choices"),
        ("train.beta1", {"low": 0.5, "high": 0.5}, "below high"),
        ("train.r1_gamma", {"low": 0, "high": 1, "log": True}, "low > 0"),
        ("train.seed", [1], "nothing is searched"),
    ],
)
def test_what_does_not_fit_is_refused_with_its_key(key: str, values: Any, words: str) -> None:
    space = TypeAdapter(Space).validate_python({key: values})
    with pytest.raises(StageFailedError, match=words) as error:
        distributions(space)
    assert key in str(error.value) or key == "train.seed"


def test_a_space_survives_its_way_through_json() -> None:
    written = json.dumps({key: one.model_dump() if isinstance(one, Range) else one for key, one in SPACE.items()})
    assert TypeAdapter(Space).validate_python(json.loads(written)) == SPACE
