"""How images are measured, and the doctor's bounds."""

from dataclasses import dataclass
from typing import Literal

from gan_core.config.ranges import (
    LARGEST_BATCH,
    MOST_STEPS,
    require,
    require_counts,
    require_not_negative,
    require_positive,
)

FEWEST_SCORED = 4
"""Images, at least, of each set that is scored: precision and recall need a third nearest other image of each."""


LARGEST_MANIFOLD = 50_000
"""Images, at most, from which precision and recall are measured: the number of Kynkäänniemi et al. 2019."""


@dataclass(frozen=True)
class ExtractorConfig:
    """The network whose features measure quality.

    `batch_size` is that of feature extraction and of training a classifier, which alone reads `epochs`,
    `learning_rate` and `seed`. `weights_sha256` is the sum of weights that are downloaded or given. Kind "auto" is
    EfficientNet for the data `folder`, whose classes, if any, may say little of how images look, else a classifier.
    """

    kind: Literal["auto", "classifier", "efficientnet-lite0", "inception-v3"]
    batch_size: int
    epochs: int
    learning_rate: float
    seed: int
    weights: str | None
    weights_sha256: str

    def __post_init__(self) -> None:
        require_counts(self, LARGEST_BATCH, "epochs", "batch_size")
        require_positive(self, "learning_rate")
        require_not_negative(self, "seed")
        is_sum = len(self.weights_sha256) == 64 and set(self.weights_sha256) <= set("0123456789abcdef")
        require(is_sum, "weights_sha256 must be 64 hexadecimal digits in lower case")


@dataclass(frozen=True)
class DoctorConfig:
    """The bounds beyond which the readings of a run are a failure."""

    window: float
    grace: float
    max_magnitude: float
    min_signal: float
    min_update: float
    min_variety: float
    max_overfitting: float
    min_gap: float
    max_lead: float
    min_images: int
    min_spacing: float
    max_spectral_distance: float
    max_leaked: float
    max_kid_to_trivial: float
    stop: bool

    def __post_init__(self) -> None:
        require(0 < self.window <= 1, f"window must be above 0 and at most 1, got {self.window}")
        require(0 <= self.grace <= 1, f"grace must be between 0 and 1, got {self.grace}")
        bounds = ("max_magnitude", "min_signal", "min_update", "min_variety", "max_overfitting", "min_gap", "max_lead")
        of_pictures = ("min_spacing", "max_spectral_distance", "max_leaked", "max_kid_to_trivial")
        require_not_negative(self, *bounds, *of_pictures)
        most = MOST_STEPS
        require(0 <= self.min_images <= most, f"min_images must be between 0 and {most:,}, got {self.min_images:,}")
