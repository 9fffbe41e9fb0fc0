"""The families of networks."""

from dataclasses import dataclass
from typing import Literal

from gan_core.config.ranges import WIDEST, require, require_counts, require_shares

SMALLEST_SIZE, LARGEST_SIZE = 8, 256
"""Sides of images, in pixels, that the networks support."""


@dataclass(frozen=True)
class _PairConfig:
    """What every family has; `conditional` networks take labels."""

    family: str
    z_dim: int
    z_distribution: Literal["normal", "uniform"]
    generator_width: int
    discriminator_width: int
    conditional: bool

    def __post_init__(self) -> None:
        require_counts(self, WIDEST, "z_dim", "generator_width", "discriminator_width")


@dataclass(frozen=True)
class MlpConfig(_PairConfig):
    """The pair of Goodfellow et al. 2014: two rectifier layers and a sigmoid against maxout layers with dropout."""

    family: Literal["mlp"]
    maxout_pieces: int
    dropout: float

    def __post_init__(self) -> None:
        super().__post_init__()
        require_counts(self, WIDEST, "maxout_pieces")
        require_shares(self, "dropout")


@dataclass(frozen=True)
class DcganConfig(_PairConfig):
    """The convolutional pair of Radford et al. 2015; widths are channels at full resolution."""

    family: Literal["dcgan"]


@dataclass(frozen=True)
class R3ganConfig(_PairConfig):
    """The residual pair of Huang et al. 2024: widths are channels at 4 to 32 pixels, `blocks` those of each level."""

    family: Literal["r3gan"]
    blocks: int

    def __post_init__(self) -> None:
        super().__post_init__()
        require_counts(self, WIDEST, "blocks")


@dataclass(frozen=True)
class SnganConfig(_PairConfig):
    """The residual pair of Miyato et al. 2018: widths are channels at 4 to 32 pixels."""

    family: Literal["sngan"]


NetworkConfig = MlpConfig | DcganConfig | R3ganConfig | SnganConfig
"""The generator and the discriminator: one class per family, told apart by `family`."""


def check_size(network: NetworkConfig, size: int) -> None:
    """Raise ValueError if the family makes no images of `size` pixels."""
    require(
        SMALLEST_SIZE <= size <= LARGEST_SIZE,
        f"image size must be between {SMALLEST_SIZE} and {LARGEST_SIZE} pixels, got {size}",
    )
    halves = isinstance(network, MlpConfig | DcganConfig) or size.bit_count() == 1
    require(halves, f"image size of {network.family} must be a power of two, got {size}")
