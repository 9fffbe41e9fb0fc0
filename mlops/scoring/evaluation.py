"""What `evaluate` found about one generator, and the one door through which two are compared."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from gan_core.metrics.intervals import Interval, Verdict, interval, p_value, verdict
from mlops.project.errors import UserError
from mlops.project.result_files import BANKS, PASSPORT, SCORES, load_json
from mlops.scoring.passport import passport_sha256, require_same

Noise = Literal["sampling", "seeds"]
"""Whose luck a comparison looks through: that of z, for two generators; that of seeds, for two ways to train."""

LOWER_IS_BETTER = {
    "fid": True,
    "kid": True,
    "is": False,
    "precision": False,
    "recall": False,
    "near_copies": True,
    "class_coverage": False,
    "class_balance": False,
}
"""By metric. In files a metric bears its extractor's name: `fid_digits`; `fid` alone is that of Inception."""

RANGE = {"fid": (0.0, math.inf), "kid": (-math.inf, math.inf), "is": (1.0, math.inf)}
"""Of a metric; that of a share is [0, 1]."""


def suffix(passport: dict[str, Any]) -> str:
    """Return what follows a metric's name under the extractor of a passport: `_digits`, or nothing for Inception."""
    extractor = passport["extractor"]
    return "" if extractor["kind"] == "inception-v3" else f"_{extractor['name']}"


@dataclass(frozen=True)
class Evaluation:
    """Scores, what they depend on, and the measurements that they summarise.

    `name` is how errors call the model. `banks` has the columns `training` (0 is the model's own, the others differ
    from it in their seed alone) and `bank` (of z), one for each metric, and a row for each training and bank.
    """

    name: str
    scores: dict[str, Any]
    passport: dict[str, Any]
    banks: pd.DataFrame

    def values(self, metric: str, noise: Noise) -> list[float]:
        """Return independent measurements of a metric.

        Args:
            metric: of `LOWER_IS_BETTER`.
            noise: 'resampling' gives one value a bank of z, 'retraining' one a training, its mean over the banks.

        Returns:
            At least two values.

        Raises:
            UserError: nothing was trained again.
        """
        column = f"{metric}{suffix(self.passport)}"
        if noise == "sampling":
            own = self.banks[self.banks.training == self.banks.training.iloc[0]]
            return [float(value) for value in own[column]]
        means = self.banks.groupby("training", sort=False)[column].mean()
        if len(means) < 2:
            raise UserError(
                f"{self.name} was trained once, so nobody knows how much another seed changes it; set replicate.seeds in "
                "params.yaml to 4 or more and run dvc repro, or compare with the noise of resampling"
            )
        return [float(value) for value in means]

    def interval(self, metric: str, noise: Noise) -> Interval:
        """Return the mean of a metric's `values`, and its interval within what the metric can be."""
        found, (lowest, highest) = interval(self.values(metric, noise)), RANGE.get(metric, (0.0, 1.0))
        return Interval(found.mean, max(found.low, lowest), min(found.high, highest))


def read_evaluation(name: str, evaluation: Path) -> Evaluation:
    """Return what `evaluate` wrote into a folder.

    Args:
        name: how errors call the model.
        evaluation: the folder.

    Returns:
        The evidence.

    Raises:
        UserError: the passport is not the one that the scores name.
    """
    banks = pd.read_csv(evaluation / BANKS)
    scores, passport = load_json(evaluation / SCORES), load_json(evaluation / PASSPORT)
    if scores["passport"] != passport_sha256(passport):
        raise UserError(
            f"{evaluation / PASSPORT} is not the passport of {SCORES} beside it: one of them was changed; restore "
            f"both: dvc checkout --force {evaluation}"
        )
    return Evaluation(name, scores, passport, banks)


@dataclass(frozen=True)
class Outcome:
    """How a challenger compares with a champion in one metric, and the p-value of 'better'."""

    verdict: Verdict
    p_value: float


def compare(champion: Evaluation, challenger: Evaluation, metric: str, *, noise: Noise, rate: float) -> Outcome:
    """Return how the challenger compares with the champion.

    Args:
        champion: the first model.
        challenger: the second.
        metric: of `LOWER_IS_BETTER`.
        noise: what could have made the difference by luck.
        rate: how often equal models may be called better, and how often worse.

    Returns:
        The verdict on the challenger.

    Raises:
        PassportError: the two were scored under different passports.
        UserError: the noise of retraining is asked for where one of them was trained once.
    """
    require_same(champion.passport, challenger.passport, (champion.name, challenger.name))
    values = [model.values(metric, noise) for model in (champion, challenger)]
    lower = LOWER_IS_BETTER[metric]
    return Outcome(verdict(*values, lower_is_better=lower, rate=rate), p_value(*values, lower_is_better=lower))
