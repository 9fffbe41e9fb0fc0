"""Registered models with their scores, as a person compares them: found in MLflow, side by side in a table."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from mlops.project.result_files import (
    BANKS,
    COMPARISON,
    GROWTH,
    INTERPOLATION,
    NEIGHBOURS,
    PASSPORT,
    SCORES,
    TRUNCATION,
    WALK,
)
from mlops.scoring.comparison import Comparison, shown_interval
from mlops.scoring.evaluation import Evaluation
from mlops.scoring.evaluation_files import read_evaluation
from mlops.tracking.runs import connect
from mlops.tracking.versions import TrackedModel, fetch_evaluation, find_model

PICTURES = {
    COMPARISON: "Generated images beside real ones",
    NEIGHBOURS: "The generated images closest to a training image, and what they are close to",
    INTERPOLATION: "On the way between two z, one pair a row",
}
"""What a person looks at and compares, by the file that `evaluate` writes."""
MORE_PICTURES = {
    TRUNCATION: "Truncation, one z a row: from near the mean of all z to no bound",
    WALK: "A walk through the latent space",
    GROWTH: "The same z through training",
}
"""What the page of a version shows beside these."""


@dataclass(frozen=True)
class ScoredModel:
    """A model as MLflow has it, its evaluation, and the folder of its pictures."""

    record: TrackedModel
    evaluation: Evaluation
    folder: Path

    @property
    def doctor(self) -> str:
        """The doctor's verdict on its training; empty if there is none."""
        return self.record.tags.get("doctor.verdict", "")


def load_model(registered: str, wanted: str, folder: Path) -> ScoredModel:
    """Return a version, an alias or a run (by its id) with scores and pictures, copied from MLflow to an empty folder.

    Its evaluation is named after version and aliases, or after its run. If there is none, or it was never scored with
    intervals, that is a UserError.
    """
    client, _ = connect()
    record = find_model(client, registered, wanted)
    name = f"version {record.version}" if record.version else f"run {record.run_name}"
    aliases = f" ({', '.join(record.aliases)})" if record.aliases else ""
    files = fetch_evaluation(client, record, [SCORES, BANKS, PASSPORT, *PICTURES], folder)
    return ScoredModel(record, read_evaluation(f"{name}{aliases}", files), files)


def score_table(models: Sequence[ScoredModel], comparisons: Sequence[Comparison]) -> pd.DataFrame:
    """Return a row for each model: the doctor's verdict, and its scores with intervals."""
    noise, metrics = comparisons[0].noise, comparisons[0].outcomes
    rows = [
        {"doctor": model.doctor}
        | {
            model.evaluation.public_name(metric): shown_interval(model.evaluation.scores[metric].interval(noise))
            for metric in metrics
        }
        for model in models
    ]
    return pd.DataFrame(rows, index=[model.evaluation.name for model in models])


def verdict_table(comparisons: Sequence[Comparison]) -> pd.DataFrame:
    """Return a row for each model but the first, with a verdict for each score."""
    rows = [
        {pair.first.public_name(metric): outcome.verdict for metric, outcome in pair.outcomes.items()}
        for pair in comparisons
    ]
    return pd.DataFrame(rows, index=[pair.other.name for pair in comparisons])
