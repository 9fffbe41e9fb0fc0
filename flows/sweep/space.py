"""What a sweep searches: keys of `params.yaml`, each with a range or with choices, checked by the form of these."""

import json
import re
from collections.abc import Mapping
from typing import Any

from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from prefect.utilities.schema_tools.validation import ValidationError, validate
from pydantic import BaseModel, Field

from flows.experiment.form import OVERRIDES
from flows.failure import StageFailedError

DIGITS = 4
"""Significant digits of a proposed number: more are lost in the noise."""


class Range(BaseModel, extra="forbid"):
    """Numbers from `low` to `high`, both included."""

    low: float
    high: float
    log: bool = Field(default=False, description="proposed evenly by orders of magnitude")
    step: float | None = Field(default=None, description="between two values; none for all numbers, 1 for whole ones")


Space = dict[str, Range | list[Any]]
"""By `section.key`: a range, choices, or one choice, which is a fixed value."""


def distributions(space: Space) -> dict[str, BaseDistribution]:
    """Return what Optuna draws from, by key, without fixed values; what does not fit the form is a StageFailedError."""
    drawn: dict[str, BaseDistribution] = {}
    for key, values in space.items():
        for value in [values.low, values.high] if isinstance(values, Range) else values:
            _check(key, _whole(key, value))
        if isinstance(values, Range):
            drawn[key] = _range(key, values)
        elif not values:
            raise StageFailedError(f"space: {key} has no choices; name some, or a range of low and high")
        elif len(values) > 1:
            drawn[key] = CategoricalDistribution([_category(value) for value in values])
    if not drawn:
        raise StageFailedError("space: nothing is searched; give a key of params.yaml a range, or several choices")
    return drawn


def overrides(space: Space, params: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of a trial by key, fixed ones included, from what Optuna proposed."""
    values: dict[str, Any] = {}
    for key, choices in space.items():
        if isinstance(choices, Range):
            rounded = float(f"{params[key]:.{DIGITS}g}")
            values[key] = params[key] if isinstance(params[key], int) else min(max(rounded, choices.low), choices.high)
        else:
            values[key] = next(one for one in choices if len(choices) == 1 or _category(one) == params[key])
    return values


def _category(value: Any) -> Any:
    """Return a choice as Optuna takes it: schedules are none."""
    return json.dumps(value, sort_keys=True) if isinstance(value, dict | list) else value


def _check(key: str, value: Any) -> None:
    schema = {"properties": {key: _schema(key)}}  # the whole one takes a second
    try:
        validate({key: value}, schema, raise_on_error=True, preprocess=False)
    except ValidationError as error:
        raise StageFailedError(f"space: {key}: {str(error).partition('Failure reason: ')[2]}") from None


def _schema(key: str) -> dict[str, Any]:
    """Return what a key takes, as JSON schema."""
    for pattern, schema in OVERRIDES["patternProperties"].items():
        if re.match(pattern, key):
            return dict(schema)
    raise StageFailedError(f"space: {key} is not a key of params.yaml; name one as SECTION.KEY, such as train.beta1")


def _kinds(key: str) -> set[str]:
    """Return the types that a key takes."""
    return {choice.get("type", "") for choice in _schema(key).get("anyOf", [_schema(key)])}


def _whole(key: str, value: Any) -> Any:
    """Return a bound as an integer, if the key takes no other numbers and the bound is one."""
    return int(value) if isinstance(value, float) and value.is_integer() and "number" not in _kinds(key) else value


def _range(key: str, values: Range) -> BaseDistribution:
    """Return the distribution of a range; if its parts do not go together, it is a StageFailedError with the reason."""
    low, high, step = values.low, values.high, values.step
    try:
        if not low < high:
            raise ValueError(f"low must be below high, got {low:g} and {high:g}")
        if "number" in _kinds(key):
            return FloatDistribution(low, high, log=values.log, step=step)
        if step is not None and not step.is_integer():
            raise ValueError(f"step must be whole, got {step:g}")
        return IntDistribution(int(low), int(high), log=values.log, step=int(step or 1))
    except ValueError as error:
        raise StageFailedError(f"space: {key}: {error}") from None
