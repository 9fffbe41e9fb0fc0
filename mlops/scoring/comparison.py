"""Several scored models side by side: their scores with intervals, and a verdict on each against the first."""

from dataclasses import dataclass
from math import floor, log10
from pathlib import Path
from typing import Any

import pandas as pd

from gan_core.metrics.intervals import Interval
from mlops.project.errors import UserError
from mlops.project.result_files import BANKS, COMPARISON, INTERPOLATION, NEIGHBOURS, PASSPORT, SCORES
from mlops.scoring.evaluation import LOWER_IS_BETTER, Evaluation, Noise, Outcome, compare, read_evaluation, suffix
from mlops.tracking.runs import connect
from mlops.tracking.versions import TrackedModel, fetch_evaluation, find_model

PICTURES = {
    COMPARISON: "Generated images beside real ones",
    NEIGHBOURS: "The generated images closest to a training image, and what they are close to",
    INTERPOLATION: "On the way between two z, one pair a row",
}
"""What a person looks at, by the file that `evaluate` writes."""
LUCK: dict[Noise, str] = {"sampling": "luck of z", "seeds": "luck of seeds"}


@dataclass(frozen=True)
class Model:
    """A scored model: what MLflow knows of it, its evidence, and the folder of its scores and pictures."""

    found: TrackedModel
    evidence: Evaluation
    folder: Path

    @property
    def title(self) -> str:
        """What tables and pages call it."""
        aliases = ", ".join(self.found.aliases)
        return f"{self.evidence.name} ({aliases})" if aliases else self.evidence.name

    def column(self, metric: str) -> str:
        """Return what a metric is called under this model's extractor."""
        return f"{metric}{suffix(self.evidence.passport)}"

    def interval(self, metric: str, noise: Noise) -> str:
        """Return mean and 95 % interval of a metric, as `2.43 [2.32, 2.53]`."""
        return shown_interval(self.evidence.scores, self.column(metric), noise)

    def summary(self, metric: str) -> str:
        """Return a metric beside that of real images, in words."""
        shown = self.interval(metric, "sampling")
        return f"{_capital(self.title)} has {self.column(metric)} {shown}, real test images {self.real(metric):.4g}"

    def real(self, metric: str) -> float:
        """Return the score of real test images."""
        return float(self.evidence.scores[f"{self.column(metric)}_of_real"])


@dataclass(frozen=True)
class Comparison:
    """Models, the first of which is what the others are compared with, and an outcome of each other for each metric."""

    models: list[Model]
    metric: str
    noise: Noise
    rate: float
    outcomes: list[dict[str, Outcome]]

    @property
    def metrics(self) -> list[str]:
        """Return what was compared, the deciding metric first."""
        return list(self.outcomes[0])


def load_model(registered: str, wanted: str, folder: Path) -> Model:
    """Return a model with its scores and pictures from MLflow.

    Args:
        registered: name of the registered model.
        wanted: version, alias or id of a run.
        folder: for the copies of its files; empty.

    Returns:
        The model.

    Raises:
        UserError: there is none, or it was never scored with intervals.
    """
    client, _ = connect()
    found = find_model(client, registered, wanted)
    name = f"version {found.version}" if found.version else f"run {found.run_name}"
    evaluation = fetch_evaluation(client, found, [SCORES, BANKS, PASSPORT, *PICTURES], folder)
    return Model(found, read_evaluation(name, evaluation), evaluation)


def shown_interval(scores: dict[str, Any], column: str, noise: Noise = "sampling") -> str:
    """Return mean and 95 % interval, as `2.43 [2.32, 2.53]`: with two digits of the interval's half width.

    Args:
        scores: content of `scores.json`.
        column: a score, as it is called there.
        noise: over banks of z, or over trainings.

    Returns:
        The text, or `not measured`.
    """
    found = bounds(scores, column, noise)
    if found is None:
        return "not measured"
    digits = 3 if found.low == found.high else min(6, max(0, 1 - floor(log10((found.high - found.low) / 2))))
    return f"{found.mean:.{digits}f} [{found.low:.{digits}f}, {found.high:.{digits}f}]"


def bounds(scores: dict[str, Any], column: str, noise: Noise) -> Interval | None:
    """Return mean and 95 % interval of a score as `scores.json` has them, or None where it was not measured."""
    name = column if noise == "sampling" else f"{column}_replicas"
    return Interval(*(scores[f"{name}{end}"] for end in ("", "_low", "_high"))) if name in scores else None


def compare_models(models: list[Model], metric: str, *, noise: Noise, rate: float) -> Comparison:
    """Compare models with the first of them.

    Args:
        models: at least two.
        metric: of `LOWER_IS_BETTER`: by which one is called better than another.
        noise: what could have made a difference by luck.
        rate: how often equal models may be called better, and how often worse, in one metric.

    Returns:
        The comparison in every metric that was measured.

    Raises:
        PassportError: two were scored under different passports.
        UserError: the metric was not measured, or the noise of retraining where a model was trained once.
    """
    first, *others = models
    measured = [name for name in LOWER_IS_BETTER if first.column(name) in first.evidence.banks]
    if metric not in measured:
        raise UserError(f"{metric} was not measured for {first.title}; its scores are {', '.join(measured)}")
    names = sorted(measured, key=lambda name: name != metric)
    outcomes = [
        {name: compare(first.evidence, other.evidence, name, noise=noise, rate=rate) for name in names}
        for other in others
    ]
    return Comparison(models, metric, noise, rate, outcomes)


def score_table(comparison: Comparison) -> pd.DataFrame:
    """Return a row for each model: alias, the doctor's verdict, and its scores with intervals."""
    rows = []
    for model in comparison.models:
        row = {"alias": ", ".join(model.found.aliases), "doctor": model.found.tags.get("doctor.verdict", "")}
        intervals = {model.column(name): model.interval(name, comparison.noise) for name in comparison.metrics}
        rows.append(row | intervals)
    return pd.DataFrame(rows, index=[model.evidence.name for model in comparison.models])


def verdict_table(comparison: Comparison) -> pd.DataFrame:
    """Return a row for each model but the first, with a verdict for each score."""
    first, *others = comparison.models
    rows = [
        {first.column(name): outcome.verdict for name, outcome in outcomes.items()} for outcomes in comparison.outcomes
    ]
    return pd.DataFrame(rows, index=[model.evidence.name for model in others])


def sentences(comparison: Comparison) -> list[str]:
    """Return for each model but the first whether it is better, and why, in words."""
    pairs = zip(comparison.models[1:], comparison.outcomes, strict=True)
    return [_sentence(comparison, other, outcomes) for other, outcomes in pairs]


def _sentence(comparison: Comparison, other: Model, outcomes: dict[str, Outcome]) -> str:
    first, metric = comparison.models[0], comparison.metric
    outcome, column = outcomes[metric], first.column(metric)
    numbers = f"{other.interval(metric, comparison.noise)} against {first.interval(metric, comparison.noise)}"
    if outcome.verdict == "cannot tell":
        said = f"{_capital(other.title)} against {first.title}: cannot tell in {column}. {numbers} is within the "
        said += f"{LUCK[comparison.noise]}."
    else:
        said = f"{_capital(other.title)} is {outcome.verdict} than {first.title} in {column}: {numbers}."
    rest: dict[str, list[str]] = {}
    for name, found in outcomes.items():
        if name != metric:
            rest.setdefault(found.verdict, []).append(first.column(name))
    parts = [f"{verdict} in {', '.join(rest[verdict])}" for verdict in ("better", "worse") if verdict in rest]
    return f"{said} Other scores: {'; '.join(parts)}." if parts else said


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def explanation(comparison: Comparison) -> str:
    """Return how intervals and verdicts are to be read."""
    counts = comparison.models[0].evidence.scores
    over = f"{counts['banks']} banks of z" if comparison.noise == "sampling" else "trainings under other seeds"
    text = (
        f"[low, high] is the 95 % interval of the mean over {over}, {counts['images']:,} images each. Better or worse "
        f"is said where equally good models would differ as much in fewer than {comparison.rate:.0%} of cases (Welch's "
        "test, for each score alone)."
    )
    if comparison.noise == "sampling":
        text += " This compares these generators; another training seed may change a score by more than that."
    if any(model.evidence.scores["few_images"] for model in comparison.models):
        text += " FEW IMAGES: fewer than twice the dimension of the features, so FID is biased upwards and noisy."
    return text
