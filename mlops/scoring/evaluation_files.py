"""Evaluations as files, ledger and MLflow hold them: metrics under their public names, such as `fid_digits`."""

from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd

from gan_core.metrics.intervals import Interval
from mlops.project.errors import UserError
from mlops.project.result_files import BANKS, METRICS, PASSPORT, SCORES, load_json, save_json
from mlops.scoring.evaluation import LOWER_IS_BETTER, Evaluation, Score, Skill, suffix
from mlops.scoring.passport import passport_sha256

DECIDING = ("precision", "recall", "near_copies")
"""What a person looks at beside FID to choose between trainings."""


def scores_json(evaluation: Evaluation) -> dict[str, Any]:
    """Return the content of `scores.json`: each score by its public name, the counts, and the passport's sha256."""
    content: dict[str, Any] = {"images": evaluation.images, "few_images": int(evaluation.few_images)}
    content |= {"banks": evaluation.banks_each, "trainings": evaluation.trainings}
    for metric, score in evaluation.scores.items():
        written = asdict(score.over_banks) | {"real": score.real} | score.ratios()
        written |= {} if score.over_seeds is None else {"seeds": asdict(score.over_seeds)}
        written |= {name: value for name in ("noise", "trivial") if (value := getattr(score, name)) is not None}
        content[evaluation.public_name(metric)] = written
    content |= {} if evaluation.parzen is None else {"parzen": evaluation.parzen}
    content |= {} if evaluation.skill is None else {"extractor": asdict(evaluation.skill)}
    return content | {"passport": evaluation.passport_sha256}


def public_banks(evaluation: Evaluation) -> pd.DataFrame:
    """Return the table of banks, its metrics under their public names."""
    return evaluation.banks.rename(columns={metric: evaluation.public_name(metric) for metric in LOWER_IS_BETTER})


def parse_evaluation(name: str, scores: dict[str, Any], passport: dict[str, Any], banks: pd.DataFrame) -> Evaluation:
    """Return an evaluation from what `scores_json` and `public_banks` made of it; `name` is how messages call it.

    Scores may be flat, as they once were, and banks may lack metrics.
    """
    public = {metric: f"{metric}{suffix(passport)}" for metric in LOWER_IS_BETTER}
    scores = _nested(scores, public.values())
    parsed = {
        metric: Score(
            over_banks=Interval(*(scores[key][end] for end in ("mean", "low", "high"))),
            real=scores[key]["real"],
            over_seeds=Interval(**scores[key]["seeds"]) if "seeds" in scores[key] else None,
            noise=scores[key].get("noise"),
            trivial=scores[key].get("trivial"),
        )
        for metric, key in public.items()
        if key in scores
    }
    plain = banks.rename(columns={key: metric for metric, key in public.items()})
    counts = scores["images"], bool(scores["few_images"])
    skill = Skill(**scores["extractor"]) if "extractor" in scores else None
    return Evaluation(name, parsed, passport, plain, *counts, scores.get("parzen"), skill)


def write_evaluation(evaluation: Evaluation, folder: Path) -> None:
    """Write `scores.json`, `passport.json`, `banks.csv` and, for DVC's tables, `metrics.json` into a folder."""
    save_json(folder / SCORES, scores_json(evaluation))
    save_json(folder / METRICS, _metrics(evaluation))
    save_json(folder / PASSPORT, evaluation.passport)
    public_banks(evaluation).to_csv(folder / BANKS, index=False, lineterminator="\n")


def _metrics(evaluation: Evaluation) -> dict[str, dict[str, float]]:
    """Return FID with its interval and the means `DECIDING`, as a row of a terminal has room for them.

    They stand under the extractor's name, so that one column never holds numbers of two extractors.
    """
    scores, fid = evaluation.scores, evaluation.scores["fid"].over_banks
    numbers = {"fid": fid.mean, "fid_low": fid.low, "fid_high": fid.high}
    numbers |= {metric: scores[metric].over_banks.mean for metric in DECIDING if metric in scores}
    return {evaluation.passport["extractor"]["name"]: {name: float(f"{value:.4g}") for name, value in numbers.items()}}


def read_evaluation(name: str, folder: Path) -> Evaluation:
    """Return what `write_evaluation` wrote into a folder; `name` is how messages call the model.

    If the passport is not the one that the scores name, that is a UserError.
    """
    scores, passport = load_json(folder / SCORES), load_json(folder / PASSPORT)
    if scores["passport"] != passport_sha256(passport):
        raise UserError(
            f"{folder / PASSPORT} is not the passport that {SCORES} beside it names: one of them was changed; restore "
            f"both: dvc checkout --force {folder}"
        )
    return parse_evaluation(name, scores, passport, pd.read_csv(folder / BANKS))


def mlflow_metrics(evaluation: Evaluation) -> dict[str, float]:
    """Return the generator's scores under flat names, as MLflow draws charts of them.

    They are `fid_digits`, `fid_digits_low` and `fid_digits_high`, the same of `fid_digits_seeds` if there are replicas,
    `fid_digits_to_real` and `fid_digits_to_noise`, and so on for every metric; `parzen_mean` and others; and
    `extractor_accuracy`.
    """
    flat = {f"parzen_{name}": value for name, value in (evaluation.parzen or {}).items()}
    flat |= {"extractor_accuracy": evaluation.skill.accuracy} if evaluation.skill else {}
    for metric, score in evaluation.scores.items():
        name = evaluation.public_name(metric)
        flat |= {f"{name}_{ratio}": value for ratio, value in score.ratios().items()}
        for prefix, measured in ((name, score.over_banks), (f"{name}_seeds", score.over_seeds)):
            if measured is not None:
                flat |= {prefix: measured.mean, f"{prefix}_low": measured.low, f"{prefix}_high": measured.high}
    return flat


def _nested(scores: dict[str, Any], public_names: Iterable[str]) -> dict[str, Any]:
    """Return scores nested, if they are flat as they once were: `fid_digits_low`, `fid_digits_of_real` and so on."""
    content: dict[str, Any] = {}
    for name in [name for name in public_names if f"{name}_of_real" in scores]:
        content[name] = _interval(scores, name) | {"real": scores[f"{name}_of_real"]}
        if f"{name}_retrained" in scores:
            content[name]["seeds"] = _interval(scores, f"{name}_retrained")
        if f"{name}_of_noise" in scores:
            content[name]["noise"] = scores[f"{name}_of_noise"]
    parzen = {
        name: scores[f"parzen_{name}"] for name in ("mean", "standard_error", "sigma") if f"parzen_{name}" in scores
    }
    return scores | content | ({"parzen": parzen} if parzen else {})


def _interval(scores: dict[str, Any], name: str) -> dict[str, float]:
    return {"mean": scores[name], "low": scores[f"{name}_low"], "high": scores[f"{name}_high"]}
