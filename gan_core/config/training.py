"""How a training computes, and Algorithm 1's numbers."""

from dataclasses import dataclass
from typing import Literal

from gan_core.config.ranges import (
    LARGEST_BATCH,
    MOST_STEPS,
    Scheduled,
    numbers,
    require,
    require_counts,
    require_not_negative,
    require_positive,
    require_shares,
)


@dataclass(frozen=True)
class ComputeConfig:
    """Device, and threads of torch on the CPU."""

    device: Literal["auto", "cpu", "cuda"]
    threads: int

    def __post_init__(self) -> None:
        require(1 <= self.threads <= 256, f"threads must be between 1 and 256, got {self.threads}")


@dataclass(frozen=True)
class ExecutionConfig:
    """How a training is executed: results differ by rounding; those of other `micro_batches` may differ by more."""

    precision: Literal["auto", "fp32", "bf16"]
    processes: int
    micro_batches: int

    def __post_init__(self) -> None:
        require_counts(self, LARGEST_BATCH, "processes", "micro_batches")


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
        require(chosen, "one of color, translation and cutout must be true; for no augmentation set kind to none")


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
        for name, value in numbers(self, *given, "target", "geometry", "color", "cutout"):
            require(0 <= value <= 1, f"{name} must be between 0 and 1, got {value}")


AugmentationConfig = NoAugmentation | DiffAugmentConfig | AdaConfig
"""How images are transformed before a discriminator in training sees them, told apart by `kind`."""


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
    snapshots: int

    @property
    def snapshot_steps(self) -> set[int]:
        """The steps after which the averaged generator is kept: `snapshots` evenly spaced ones, the last included."""
        return {-(-self.steps * part // self.snapshots) for part in range(1, self.snapshots + 1)}

    def __post_init__(self) -> None:
        require_counts(self, MOST_STEPS, "steps", "report_every", "sample_every", "checkpoint_every", "snapshots")
        require_counts(self, LARGEST_BATCH, "batch_size", "discriminator_steps")
        require_positive(self, "generator_learning_rate", "discriminator_learning_rate")
        require(self.ema_warmup > 1, f"ema_warmup must be above 1, got {self.ema_warmup}")
        require_not_negative(self, "r1_gamma", "r2_gamma", "wgan_gp", "seed")
        penalised = any(value for _, value in numbers(self, "r1_gamma", "r2_gamma", "wgan_gp"))
        bounded = self.loss != "wasserstein" or penalised
        require(bounded, "wgan_gp, r1_gamma or r2_gamma must be above 0 if loss is wasserstein, got none")
        if self.ema_half_life is not None:
            require_not_negative(self, "ema_half_life")
        require_shares(self, "beta1", "beta2", "ema_decay")
