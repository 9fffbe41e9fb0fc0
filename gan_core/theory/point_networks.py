"""Generator and discriminator for points of known densities: perceptrons with three rectifier layers.

Logits are (B,), as those of `gan_core.networks.build`. The generator's output is linear, so that it can reach tails.
"""

import torch
from torch import Generator, Tensor, nn

from gan_core.config import NetworkConfig
from gan_core.networks.build import initialised
from gan_core.runtime.randomness import stream


def _hidden(inputs: int, width: int) -> nn.Sequential:
    sizes = (inputs, width, width)
    return nn.Sequential(*(layer for size in sizes for layer in (nn.Linear(size, width), nn.ReLU())))


class PointGenerator(nn.Module):
    """Three rectifier layers and a linear one: z (B, Z) to points (B, D)."""

    def __init__(self, config: NetworkConfig, dimensions: int) -> None:
        super().__init__()
        self.hidden = _hidden(config.z_dim, config.generator_width)
        self.points = nn.Linear(config.generator_width, dimensions)

    def forward(self, z: Tensor) -> Tensor:
        """Return points (B, D) for z (B, Z)."""
        points: Tensor = self.points(self.hidden(z))
        return points


class PointDiscriminator(nn.Module):
    """Three rectifier layers over a point and its sines and cosines: points (B, D) to logits (B,).

    Beside x its inputs are sin(2^k x) and cos(2^k x) for k below `octaves` (Fourier features: Tancik et al. 2020,
    arXiv:2006.10739), because a perceptron over x alone learns fine structure, such as modes much narrower than their
    distance, too slowly.
    """

    def __init__(self, config: NetworkConfig, dimensions: int, octaves: int) -> None:
        super().__init__()
        self.octaves = octaves
        self.hidden = _hidden(dimensions * (1 + 2 * octaves), config.discriminator_width)
        self.logit = nn.Linear(config.discriminator_width, 1)

    def forward(self, x: Tensor, rng: Generator | None = None) -> Tensor:
        """Return logits (B,) for points (B, D); `rng` is not used, because nothing is random here."""
        scaled = [x * 2.0**k for k in range(self.octaves)]
        features = [x, *(angle.sin() for angle in scaled), *(angle.cos() for angle in scaled)]
        logits: Tensor = self.logit(self.hidden(torch.cat(features, dim=1)))
        return logits.squeeze(1)


def build_players(
    config: NetworkConfig, *, dimensions: int, octaves: int, seed: int
) -> tuple[PointDiscriminator, PointGenerator]:
    """Return both players for points of D `dimensions`, on the CPU, their weights drawn from `seed`, at least 0.

    Of the configuration, latent space and widths are read; the rest is for images. With 0 `octaves` the discriminator
    has no sines and cosines.
    """
    discriminator = PointDiscriminator(config, dimensions, octaves)
    generator = PointGenerator(config, dimensions)
    initialised(discriminator, stream(seed, "discriminator weights"))
    initialised(generator, stream(seed, "generator weights"))
    return discriminator, generator
