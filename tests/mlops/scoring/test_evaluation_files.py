import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from mlops.project.errors import UserError
from mlops.project.result_files import METRICS, load_json
from mlops.scoring.evaluation import LOWER_IS_BETTER, Evaluation
from mlops.scoring.evaluation_files import (
    mlflow_metrics,
    parse_evaluation,
    public_banks,
    read_evaluation,
    scores_json,
    write_evaluation,
)
from tests.mlops.scoring.made import evaluation

PARZEN = {"mean": 220.5, "standard_error": 2.0, "sigma": 0.2}


def same(first: Evaluation, second: Evaluation) -> bool:
    pd.testing.assert_frame_equal(first.banks, second.banks)
    return replace(first, banks=second.banks) == second


@pytest.mark.parametrize("trainings", [1, 3])
def test_what_is_written_is_read(tmp_path: Path, trainings: int) -> None:
    model = replace(evaluation(2.0, trainings=trainings, few_images=True), parzen=PARZEN if trainings > 1 else None)
    write_evaluation(model, tmp_path)
    assert same(read_evaluation("model 0", tmp_path), model)


def test_a_score_is_nested_under_its_public_name() -> None:
    model = replace(evaluation(2.0, trainings=3), parzen=PARZEN)
    content, fid = scores_json(model), model.scores["fid"]
    assert content["fid_digits"].keys() == {
        "mean",
        "low",
        "high",
        "real",
        "noise",
        "trivial",
        "to_real",
        "to_noise",
        "seeds",
    }
    assert content["fid_digits"]["mean"] == fid.over_banks.mean
    assert content["kid_digits"].keys() == {"mean", "low", "high", "real", "seeds"}
    assert {name for name, value in content.items() if not isinstance(value, dict)} == {
        *("images", "few_images", "banks", "trainings", "passport")
    }
    assert list(public_banks(model).columns) == [
        "training",
        "bank",
        *(f"{metric}_digits" for metric in LOWER_IS_BETTER),
    ]


def test_the_numbers_that_decide_stand_under_the_extractors_name(tmp_path: Path) -> None:
    model = evaluation(2.0)
    write_evaluation(model, tmp_path)
    (name, numbers), fid = next(iter(load_json(tmp_path / METRICS).items())), model.scores["fid"].over_banks
    assert name == "digits"
    assert list(numbers) == ["fid", "fid_high", "fid_low", "near_copies", "precision", "recall"]
    assert [numbers[key] for key in ("fid_low", "fid", "fid_high")] == pytest.approx(
        [fid.low, fid.mean, fid.high], 1e-3
    )


def test_mlflow_gets_flat_names() -> None:
    model = replace(evaluation(2.0, trainings=3), parzen=PARZEN)
    flat, fid = mlflow_metrics(model), model.scores["fid"]
    assert fid.over_seeds is not None
    assert (flat["fid_digits"], flat["fid_digits_low"]) == (fid.over_banks.mean, fid.over_banks.low)
    assert (flat["fid_digits_seeds"], flat["fid_digits_seeds_high"]) == (fid.over_seeds.mean, fid.over_seeds.high)
    assert (flat["fid_digits_to_real"], flat["parzen_mean"]) == (fid.ratios()["to_real"], 220.5)
    assert len(flat) == len(LOWER_IS_BETTER) * 6 + 2 + 3
    assert "fid_digits_seeds" not in mlflow_metrics(evaluation(2.0))


def test_flat_scores_of_before_are_read_as_nested_ones() -> None:
    model = replace(evaluation(2.0, trainings=3), parzen=PARZEN)
    flat: dict[str, Any] = {f"parzen_{name}": value for name, value in PARZEN.items()}
    flat |= {"images": 436, "few_images": 0, "banks": 6, "trainings": 3, "passport": model.passport_sha256}
    for metric, score in model.scores.items():
        for prefix, measured in (
            (f"{metric}_digits", score.over_banks),
            (f"{metric}_digits_retrained", score.over_seeds),
        ):
            assert measured is not None
            flat |= {prefix: measured.mean, f"{prefix}_low": measured.low, f"{prefix}_high": measured.high}
        flat[f"{metric}_digits_of_real"] = score.real
    flat["fid_digits_of_noise"] = 100.0
    before = replace(model, scores=model.scores | {"fid": replace(model.scores["fid"], trivial=None)})
    assert same(parse_evaluation("model 0", flat, model.passport, public_banks(model)), before)


def test_another_passport_than_that_of_the_scores_is_refused(tmp_path: Path) -> None:
    write_evaluation(evaluation(2.0), tmp_path)
    passport = tmp_path / "passport.json"
    passport.write_text(json.dumps(json.loads(passport.read_text()) | {"device": "cuda"}))
    with pytest.raises(UserError, match=str(passport)):
        read_evaluation("model 0", tmp_path)
