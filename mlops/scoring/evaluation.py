"""What `evaluate` measures of a generator: scores with intervals, their passport, and the measurements behind them."""

import math
from dataclasses import dataclass
from typing import Any, Literal

import pandas as pd

from gan_core.metrics.intervals import Interval, interval
from mlops.project.errors import UserError
from mlops.scoring.passport import passport_sha256

Noise = Literal["sampling", "seeds"]
"""Whose noise a comparison accounts for: of the sampled z, for two generators; of seeds, for two ways to train."""

LOWER_IS_BETTER = {
    "fid": True,
    "kid": True,
    "mind": True,
    "is": False,
    "precision": False,
    "recall": False,
    "density": False,
    "coverage": False,
    "near_copies": True,
    "class_coverage": False,
    "class_balance": False,
    "label_accuracy": False,
}
"""By metric. In files a metric bears its extractor's name: `fid_digits`; `fid` alone is that of Inception."""

RANGE = {
    "fid": (0.0, math.inf),
    "kid": (-math.inf, math.inf),
    "is": (1.0, math.inf),
    **dict.fromkeys(("mind", "density"), (0.0, math.inf)),
    **dict.fromkeys(("precision", "recall", "coverage", "near_copies"), (0.0, 1.0)),
    **dict.fromkeys(("class_coverage", "class_balance", "label_accuracy"), (0.0, 1.0)),
}
"""Of every metric; intervals are cut there."""


@dataclass(frozen=True)
class References:
    """The FID of what has learned nothing: of a `trivial` generator, which superimposes two images, and of `noise`."""

    trivial: float
    noise: float


@dataclass(frozen=True)
class Skill:
    """The share of real test images whose class a classifier names, and the share of the most frequent class."""

    accuracy: float
    majority: float

    @property
    def fewest(self) -> float:
        """The accuracy below which it is too weak for its features to measure anything.

        Half of the images that it would name wrongly by always naming the most frequent class must be named rightly.
        """
        return (1 + self.majority) / 2

    @property
    def weak(self) -> bool:
        """Whether scores in its features are no evidence; of one class alone it can learn nothing."""
        return self.accuracy < self.fewest or self.majority == 1


@dataclass(frozen=True)
class Score:
    """A metric of generated images: over banks of z and, if there are replicas, over trainings that differ in seed.

    Beside it stands the metric of as many `real` test images and, for FID, of a `trivial` generator and of uniform
    `noise`; scores of before have no trivial one.
    """

    over_banks: Interval
    real: float
    over_seeds: Interval | None = None
    noise: float | None = None
    trivial: float | None = None

    def interval(self, noise: Noise) -> Interval | None:
        """Return mean and 95 % interval under a kind of noise; None if it was not measured."""
        return self.over_banks if noise == "sampling" else self.over_seeds

    def ratios(self) -> dict[str, float]:
        """Return the mean relative to real images and to noise, if noise was measured."""
        mean = self.over_banks.mean
        return {} if self.noise is None else {"to_real": mean / self.real, "to_noise": mean / self.noise}


@dataclass(frozen=True)
class Evaluation:
    """Scores by metric, what they depend on, and the measurements that they summarise.

    `name` is how messages call the model. `banks` has the columns `training` (0 is the model's own, the others differ
    from it in their seed alone) and `bank` (of z), one for each metric, and a row for each training and bank; each row
    is of `images` images. `parzen` is the log-likelihood of the 2014 paper, if it was asked for; `skill` that of the
    extractor, if it names the classes of these data.
    """

    name: str
    scores: dict[str, Score]
    passport: dict[str, Any]
    banks: pd.DataFrame
    images: int
    few_images: bool
    parzen: dict[str, float] | None = None
    skill: Skill | None = None

    @property
    def passport_sha256(self) -> str:
        """The sha256 of the passport."""
        return passport_sha256(self.passport)

    @property
    def trainings(self) -> int:
        """The number of trainings that were measured, the model's own included."""
        return int(self.banks.training.nunique())

    @property
    def banks_each(self) -> int:
        """The number of banks of z of each training."""
        return int(self.banks.bank.nunique())

    def public_name(self, metric: str) -> str:
        """Return what files, pages and MLflow call a metric: with its extractor's name."""
        return f"{metric}{suffix(self.passport)}"

    def row_names(self, longest: int) -> dict[str, str]:
        """Return how rows of a table that names the extractor are called: without it, if a name would be too long."""
        names = {metric: self.public_name(metric) for metric in self.scores}
        return names if max(map(len, names.values())) <= longest else {metric: metric for metric in names}

    def values(self, metric: str, noise: Noise) -> list[float]:
        """Return at least two independent measurements of a metric.

        'sampling' gives one value a bank of z, 'seeds' one a training, its mean over the banks; if there is one
        training only, that is a UserError.
        """
        if noise == "seeds" and self.trainings < 2:
            raise UserError(
                f"{self.name} was trained once, so its seed-to-seed variance is unknown; set replicate.seeds in "
                "params.yaml to 4 or more and run dvc repro, or compare with the noise of sampling"
            )
        return _values(self.banks, metric, noise)


def suffix(passport: dict[str, Any]) -> str:
    """Return what follows a metric's name under the extractor of a passport: `_digits`, or nothing for Inception."""
    extractor = passport["extractor"]
    return "" if extractor["kind"] == "inception-v3" else f"_{extractor['name']}"


def _values(banks: pd.DataFrame, metric: str, noise: Noise) -> list[float]:
    own = banks[banks.training == banks.training.iloc[0]][metric]
    means = banks.groupby("training", sort=False)[metric].mean()
    return [float(value) for value in (own if noise == "sampling" else means)]


def summarise(banks: pd.DataFrame, real: dict[str, float], references: References) -> dict[str, Score]:
    """Return the score of every metric: means with intervals within the metric's range.

    `banks` are those of an `Evaluation`, at least two of each training; `real` has each metric of real test images, of
    which those are left out that the banks lack, as label accuracy without labels; `references` have their FID.
    """

    def within(metric: str, noise: Noise) -> Interval:
        measured, (lowest, highest) = interval(_values(banks, metric, noise)), RANGE[metric]
        return Interval(measured.mean, max(measured.low, lowest), min(measured.high, highest))

    replicated = banks.training.nunique() > 1
    return {
        metric: Score(
            over_banks=within(metric, "sampling"),
            real=value,
            over_seeds=within(metric, "seeds") if replicated else None,
            noise=references.noise if metric == "fid" else None,
            trivial=references.trivial if metric == "fid" else None,
        )
        for metric, value in real.items()
        if metric in banks
    }
