"""Comparisons of models that are made up, so that every verdict is known beforehand."""

from collections.abc import Callable
from copy import deepcopy
from typing import Any

import pytest

from mlops.project.errors import UserError
from mlops.scoring.comparison import (
    Comparison,
    Model,
    compare_models,
    explanation,
    score_table,
    sentences,
    shown_interval,
    verdict_table,
)
from mlops.scoring.passport import PassportError

MakeModel = Callable[..., Model]


def compared(*models: Model, metric: str = "fid", noise: Any = "sampling") -> Comparison:
    return compare_models(list(models), metric, noise=noise, rate=0.05)


def test_every_model_is_compared_with_the_first(made_model: MakeModel) -> None:
    comparison = compared(made_model(1, 3.0), made_model(2, 2.0), made_model(3, 4.0), made_model(4, 3.0))
    verdicts = verdict_table(comparison)
    assert dict(verdicts.fid_digits) == {"version 2": "better", "version 3": "worse", "version 4": "cannot tell"}
    assert set(verdicts.is_digits) == {"cannot tell"}


def test_a_sentence_says_which_is_better_and_by_what(made_model: MakeModel) -> None:
    models = made_model(1, 3.0), made_model(2, 2.0), made_model(3, 3.0)
    better, open_question = sentences(compared(*models))
    shown = [model.interval("fid", "sampling") for model in models]
    assert better == f"Version 2 is better than version 1 in fid_digits: {shown[1]} against {shown[0]}."
    expected = f"cannot tell in fid_digits. {shown[2]} against {shown[0]} is within the luck of z."
    assert open_question == f"Version 3 against version 1: {expected}"


def test_a_sentence_names_what_is_better_and_worse_beside_the_deciding_metric(made_model: MakeModel) -> None:
    first, second = made_model(1, 3.0), made_model(2, 3.5)
    second.evidence.banks["is_digits"] = 8.0
    (said,) = sentences(compared(first, second, metric="is"))
    assert said.startswith("Version 2 is better than version 1 in is_digits")
    assert said.endswith("Other scores: worse in fid_digits.")


def test_the_table_shows_scores_with_intervals_and_the_doctor(made_model: MakeModel) -> None:
    table = score_table(compared(made_model(1, 3.0), made_model(2, 2.0)))
    assert list(table.index) == ["version 1", "version 2"]
    assert list(table.columns) == ["alias", "doctor", "fid_digits", "is_digits"]
    assert list(table.doctor) == ["healthy", "healthy"]
    assert list(table.is_digits) == ["7.500 [7.500, 7.500]"] * 2


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
    assert shown_interval({"fid": mean, "fid_low": mean - half, "fid_high": mean + half}, "fid") == expected


def test_the_luck_of_seeds_has_intervals_of_its_own_and_needs_them(made_model: MakeModel) -> None:
    many, one = made_model(1, 3.0, trainings=5), made_model(2, 2.0)
    assert one.interval("fid", "seeds") == "not measured"
    with pytest.raises(UserError, match=r"version 2 was trained once.*replicate\.seeds"):
        compared(many, one, noise="seeds")
    comparison = compared(many, made_model(3, 2.0, trainings=5), noise="seeds")
    assert comparison.outcomes[0]["fid"].verdict == "better"
    table = score_table(comparison)
    scores = many.evidence.scores
    assert table.fid_digits["version 1"] == shown_interval(scores, "fid_digits_replicas")
    assert "another training seed" not in explanation(comparison)


FIELDS = {
    "extractor": ("extractor", "sha256"),
    "resizer": ("resizer",),
    "split": ("reference", "split"),
    "number": ("compared", "generated"),
    "data": ("reference", "dvc_md5"),
    "settings": ("settings", "banks"),
    "library": ("libraries", "torch"),
    "device": ("device",),
}


def changed(passport: dict[str, Any], *fields: tuple[str, ...]) -> dict[str, Any]:
    """Return a passport in which some fields, by their path, say `other`."""
    copy = deepcopy(passport)
    for *above, last in fields:
        part = copy
        for name in above:
            part = part[name]
        part[last] = "other"
    return copy


@pytest.mark.parametrize("kind", FIELDS)
def test_another_passport_is_refused_by_the_field_that_differs(kind: str, made_model: MakeModel) -> None:
    first = made_model(1, 3.0)
    second = made_model(2, 2.0, passport=changed(first.evidence.passport, FIELDS[kind]))
    with pytest.raises(PassportError) as refused:
        compared(first, second)
    assert [line for line in str(refused.value).splitlines() if line.startswith("  ")] == [
        f"  {'.'.join(FIELDS[kind])}: {value_of(first, FIELDS[kind])} and other"
    ]


def test_every_field_that_differs_is_named(made_model: MakeModel) -> None:
    first = made_model(1, 3.0)
    second = made_model(2, 2.0, passport=changed(first.evidence.passport, *FIELDS.values()))
    with pytest.raises(PassportError) as refused:
        compared(first, second)
    assert all(f"  {'.'.join(path)}: " in str(refused.value) for path in FIELDS.values())


def value_of(model: Model, path: tuple[str, ...]) -> Any:
    value: Any = model.evidence.passport
    for name in path:
        value = value[name]
    return value


def test_a_metric_that_was_not_measured_is_named_with_those_that_were(made_model: MakeModel) -> None:
    with pytest.raises(UserError, match=r"class_coverage was not measured for version 1; its scores are fid, is"):
        compared(made_model(1, 3.0), made_model(2, 2.0), metric="class_coverage")


def test_a_score_that_hardly_varies_in_one_model_is_compared_without_a_warning(made_model: MakeModel) -> None:
    first, second = made_model(1, 3.0), made_model(2, 3.0)
    first.evidence.banks["is_digits"] = [0.9, 1.0] * 4
    second.evidence.banks["is_digits"] = [0.1 + 0.2] * 7 + [0.3]
    assert compared(first, second).outcomes[0]["is"].verdict == "worse"


def test_few_images_are_said_aloud(made_model: MakeModel) -> None:
    first, second = made_model(1, 3.0), made_model(2, 2.0)
    assert "FEW IMAGES" not in explanation(compared(first, second))
    second.evidence.scores["few_images"] = 1
    assert "FEW IMAGES" in explanation(compared(first, second))
