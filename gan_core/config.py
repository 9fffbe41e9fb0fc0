"""What can be configured: one frozen dataclass for each thing, without defaults.

This module imports no torch: every stage validates all of these classes before it starts to work, and a stage that only
copies files should not wait two seconds for torch.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

SMALLEST_SIZE, LARGEST_SIZE = 8, 256
"""Sides of images, in pixels, that the networks support."""
FEWEST_SCORED = 4
"""Images, at least, of each set that is scored: precision and recall need a third nearest other image of each."""
LARGEST_MANIFOLD = 50_000
"""Images, at most, from which precision and recall are measured: the number of Kynkäänniemi et al. 2019."""


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise ValueError(message)


@dataclass(frozen=True)
class Schedule:
    """A number that goes from `start` to `end` while so many images are seen, and stays there.

    None is for all images of the training. "cosine" is half a period of it, slow at both ends.
    """

    start: float
    end: float
    shape: Literal["linear", "cosine"]
    images: int | None

    def __post_init__(self) -> None:
        _require(self.images is None or self.images > 0, f"images must be a positive number or null, got {self.images}")


Scheduled = float | Schedule
"""A constant, or a number that changes through training."""


def _numbers(config: object, *names: str) -> Iterator[tuple[str, float]]:
    """Yield names and values, of a schedule both ends."""
    for name in names:
        value = getattr(config, name)
        if isinstance(value, Schedule):
            yield from ((f"{name}.start", value.start), (f"{name}.end", value.end))
        else:
            yield name, value


def _require_positive(config: object, *names: str) -> None:
    for name, value in _numbers(config, *names):
        if "." in name:  # a schedule may begin or end at 0
            _require(0 <= value < math.inf, f"{name} must not be negative or infinite, got {value}")
        else:
            _require(0 < value < math.inf, f"{name} must be a positive number, got {value}")


def _require_not_negative(config: object, *names: str) -> None:
    for name, value in _numbers(config, *names):
        _require(0 <= value < math.inf, f"{name} must not be negative or infinite, got {value}")


def _require_shares(config: object, *names: str) -> None:
    for name, value in _numbers(config, *names):
        _require(0 <= value < 1, f"{name} must be at least 0 and below 1, got {value}")


@dataclass(frozen=True)
class ComputeConfig:
    """Device, and threads of torch on the CPU."""

    device: Literal["auto", "cpu", "cuda"]
    threads: int

    def __post_init__(self) -> None:
        _require(1 <= self.threads <= 256, f"threads must be between 1 and 256, got {self.threads}")


@dataclass(frozen=True)
class ExecutionConfig:
    """How a training is executed: results differ by rounding; those of other `micro_batches` may differ by more."""

    precision: Literal["auto", "fp32", "bf16"]
    processes: int
    micro_batches: int

    def __post_init__(self) -> None:
        _require_positive(self, "processes", "micro_batches")


@dataclass(frozen=True)
class MlpConfig:
    """The pair of Goodfellow et al. 2014: two rectifier layers and a sigmoid against maxout layers with dropout."""

    family: Literal["mlp"]
    z_dim: int
    z_distribution: Literal["normal", "uniform"]
    generator_width: int
    discriminator_width: int
    maxout_pieces: int
    dropout: float
    conditional: bool

    def __post_init__(self) -> None:
        _require_positive(self, "z_dim", "generator_width", "discriminator_width", "maxout_pieces")
        _require_shares(self, "dropout")


@dataclass(frozen=True)
class DcganConfig:
    """The convolutional pair of Radford et al. 2015; widths are channels at full resolution."""

    family: Literal["dcgan"]
    z_dim: int
    z_distribution: Literal["normal", "uniform"]
    generator_width: int
    discriminator_width: int
    conditional: bool

    def __post_init__(self) -> None:
        _require_positive(self, "z_dim", "generator_width", "discriminator_width")


@dataclass(frozen=True)
class NoAugmentation:
    """The discriminator is trained on images as they are."""

    kind: Literal["none"]


@dataclass(frozen=True)
class DiffAugmentConfig:
    """Every image is transformed, in each of these ways: Zhao et al. 2020, arXiv:2006.10738."""

    kind: Literal["diffaugment"]
    color: bool
    translation: bool
    cutout: bool

    def __post_init__(self) -> None:
        chosen = self.color or self.translation or self.cutout
        _require(chosen, "one of color, translation and cutout must be true; for no augmentation set kind to none")


@dataclass(frozen=True)
class AdaConfig:
    """Each transform with a probability: Karras et al. 2020, arXiv:2006.06676.

    It is given, perhaps by a schedule, or rises while logits of unseen real images fall back by more than the share
    `target` of the gap between logits of training and of generated images. The groups of transforms have this
    probability times `geometry`, `color` and `cutout`.
    """

    kind: Literal["ada"]
    probability: Literal["adaptive"] | Scheduled
    target: float
    geometry: float
    color: float
    cutout: float

    def __post_init__(self) -> None:
        given = () if self.probability == "adaptive" else ("probability",)
        for name, value in _numbers(self, *given, "target", "geometry", "color", "cutout"):
            _require(0 <= value <= 1, f"{name} must be between 0 and 1, got {value}")


AugmentationConfig = NoAugmentation | DiffAugmentConfig | AdaConfig
"""How images are transformed before a discriminator in training sees them, told apart by `kind`."""


@dataclass(frozen=True)
class R3ganConfig:
    """The residual pair of Huang et al. 2024: widths are channels at 4 to 32 pixels, `blocks` those of each level."""

    family: Literal["r3gan"]
    z_dim: int
    z_distribution: Literal["normal", "uniform"]
    generator_width: int
    discriminator_width: int
    blocks: int
    conditional: bool

    def __post_init__(self) -> None:
        _require_positive(self, "z_dim", "generator_width", "discriminator_width", "blocks")


@dataclass(frozen=True)
class SnganConfig:
    """The residual pair of Miyato et al. 2018: widths are channels at 4 to 32 pixels."""

    family: Literal["sngan"]
    z_dim: int
    z_distribution: Literal["normal", "uniform"]
    generator_width: int
    discriminator_width: int
    conditional: bool

    def __post_init__(self) -> None:
        _require_positive(self, "z_dim", "generator_width", "discriminator_width")


NetworkConfig = MlpConfig | DcganConfig | R3ganConfig | SnganConfig
"""The generator and the discriminator: one class per family, told apart by `family`; `conditional` ones take labels."""


def check_size(network: NetworkConfig, size: int) -> None:
    """Raise ValueError if the family makes no images of `size` pixels."""
    _require(
        SMALLEST_SIZE <= size <= LARGEST_SIZE,
        f"image size must be between {SMALLEST_SIZE} and {LARGEST_SIZE} pixels, got {size}",
    )
    halves = isinstance(network, MlpConfig | DcganConfig) or size.bit_count() == 1
    _require(halves, f"image size of {network.family} must be a power of two, got {size}")


@dataclass(frozen=True)
class TrainConfig:
    """Algorithm 1 of Goodfellow et al. 2014 and what later work added to it.

    With `mirror` each real image is reversed from left to right by a fair coin, as if the data held both. With
    `generator_z` "fresh" the generator's step draws its own latents, as in Algorithm 1; with "shared" it takes the
    images of the discriminator's last step, as in PyTorch's DCGAN example. `class_balance` is how often a conditional
    pair meets each class: as often as the data have it, or all equally often. With `ema_half_life`, in images,
    `ema_decay` and `ema_warmup` are not read.
    """

    seed: int
    steps: int
    batch_size: int
    discriminator_steps: int
    class_balance: Literal["data", "uniform"]
    generator_z: Literal["fresh", "shared"]
    mirror: bool
    loss: Literal["minimax", "non_saturating", "relativistic", "least_squares", "hinge", "wasserstein"]
    r1_gamma: Scheduled
    r2_gamma: Scheduled
    penalty_gradient: Literal["exact", "finite_difference"]
    wgan_gp: float
    generator_learning_rate: Scheduled
    discriminator_learning_rate: Scheduled
    beta1: float
    beta2: Scheduled
    ema_half_life: Scheduled | None
    ema_decay: float
    ema_warmup: float
    report_every: int
    sample_every: int
    checkpoint_every: int

    def __post_init__(self) -> None:
        _require_positive(self, "steps", "batch_size", "discriminator_steps")
        _require_positive(self, "generator_learning_rate", "discriminator_learning_rate")
        _require_positive(self, "report_every", "sample_every", "checkpoint_every")
        _require(self.ema_warmup > 1, f"ema_warmup must be above 1, got {self.ema_warmup}")
        _require_not_negative(self, "r1_gamma", "r2_gamma", "wgan_gp", "seed")
        penalised = any(value for _, value in _numbers(self, "r1_gamma", "r2_gamma", "wgan_gp"))
        bounded = self.loss != "wasserstein" or penalised
        _require(bounded, "wgan_gp, r1_gamma or r2_gamma must be above 0 if loss is wasserstein, got none")
        if self.ema_half_life is not None:
            _require_not_negative(self, "ema_half_life")
        _require_shares(self, "beta1", "beta2", "ema_decay")


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
        _require_positive(self, "epochs", "batch_size", "learning_rate")
        _require_not_negative(self, "seed")
        is_sum = len(self.weights_sha256) == 64 and set(self.weights_sha256) <= set("0123456789abcdef")
        _require(is_sum, "weights_sha256 must be 64 hexadecimal digits in lower case")


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
    stop: bool

    def __post_init__(self) -> None:
        _require(0 < self.window <= 1, f"window must be above 0 and at most 1, got {self.window}")
        _require(0 <= self.grace <= 1, f"grace must be between 0 and 1, got {self.grace}")
        bounds = ("max_magnitude", "min_signal", "min_update", "min_variety", "max_overfitting", "min_gap", "max_lead")
        _require_not_negative(self, *bounds, "min_images", "min_spacing", "max_spectral_distance", "max_leaked")
