"""The convolutional pair of Huang et al. 2024 (arXiv:2501.05441): residual blocks without any normalisation.

Made for the relativistic loss with R1 and R2. The features of 4 pixels are computed in float32 whatever the precision,
as by the authors.
"""

from collections.abc import Iterator
from itertools import pairwise

import torch
from torch import Generator, Tensor, nn
from torch.nn.functional import leaky_relu, one_hot

from gan_core.config import R3ganConfig
from gan_core.networks.convolution import Convolution, lowered
from gan_core.networks.resampling import downsampled, pyramid, upsampled

GROUPED, EXPANSION, SLOPE = 16, 2, 0.2
"""Channels of a group, channels inside a block for one of its input, slope of the leaky rectifier."""


class R3ganBlock(nn.Module):
    """x + C3(a(C2(a(C1(x))))): Huang et al. 2024, figure 4. Inside it is twice as wide, in groups of 16 channels.

    The bias that `a` adds before it rectifies is the convolution's. Nothing else acts on x, before or after.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        inner = EXPANSION * width
        self.widen = Convolution(width, inner, 1)
        self.mix = Convolution(inner, inner, 3, padding=1, groups=inner // GROUPED)
        self.narrow = Convolution(inner, width, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, C, H, W) for x of this shape; x itself before training."""
        inner = leaky_relu(self.widen(x), SLOPE, inplace=True)
        residual: Tensor = self.narrow(leaky_relu(self.mix(inner), SLOPE, inplace=True))
        return x + residual


class _Up(nn.Module):
    """A 1x1 convolution if widths differ, then the filter."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.widths = _between(inputs, outputs)

    def forward(self, x: Tensor) -> Tensor:
        return upsampled(self.widths(x))


class _Down(nn.Module):
    """The filter, then a 1x1 convolution if widths differ."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.widths = _between(inputs, outputs)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.widths(downsampled(x))
        return result


def _between(inputs: int, outputs: int) -> nn.Module:
    return nn.Identity() if inputs == outputs else Convolution(inputs, outputs, 1, bias=False)


class R3ganGenerator(nn.Module):
    """A learned basis of 4x4 maps weighted by z, then blocks, twice as large at each level; no tanh at the end."""

    def __init__(self, config: R3ganConfig, size: int, channels: int, classes: int = 0) -> None:
        super().__init__()
        widths = pyramid(config.generator_width, size)
        self.embedding = nn.Linear(classes, config.z_dim, bias=False) if classes else None
        self.basis = nn.Parameter(torch.empty(widths[0], 4, 4))
        self.weights = nn.Linear(config.z_dim * (2 if classes else 1), widths[0], bias=False)
        self.first = _blocks(widths[0], config.blocks)
        layers: list[nn.Module] = []
        for below, width in pairwise(widths):
            layers += [_Up(below, width), *_blocks(width, config.blocks)]
        self.layers = nn.Sequential(*layers, Convolution(widths[-1], channels, 1, bias=False))

    def forward(self, z: Tensor, labels: Tensor | None = None) -> Tensor:
        """Return images (B, C, H, W), mostly in [-1, 1], for z (B, Z) and, if conditional, labels (B,) int64."""
        with torch.autocast(z.device.type, enabled=False):
            if self.embedding is not None:
                z = torch.cat([z, _embedded(self.embedding, labels)], dim=1)
            maps = self.basis * self.weights(z)[:, :, None, None]
            maps = self.first(maps.contiguous(memory_format=torch.channels_last))
        images: Tensor = self.layers(lowered(maps))
        return images

    def draw_weights(self, rng: Generator) -> None:
        """Draw initial weights: `_draw_weights`, and the basis from N(0, 1)."""
        nn.init.normal_(self.basis, generator=rng)
        _draw_weights(self, rng)


class R3ganDiscriminator(nn.Module):
    """The generator's mirror image: blocks, half as large at each level, a filter of its own for each map, a logit."""

    def __init__(self, config: R3ganConfig, size: int, channels: int, classes: int = 0) -> None:
        super().__init__()
        widths = pyramid(config.discriminator_width, size)[::-1]
        layers: list[nn.Module] = [Convolution(channels, widths[0], 1, bias=False)]
        for width, below in pairwise(widths):
            layers += [*_blocks(width, config.blocks), _Down(width, below)]
        self.layers = nn.Sequential(*layers)
        last = widths[-1]
        self.last = nn.Sequential(*_blocks(last, config.blocks), Convolution(last, last, 4, groups=last, bias=False))
        self.logit = nn.Linear(last, last if classes else 1, bias=False)
        self.embedding = nn.Linear(classes, last, bias=False) if classes else None

    def forward(self, images: Tensor, rng: Generator | None = None, labels: Tensor | None = None) -> Tensor:
        """Return logits (B,) for images (B, C, H, W) and, if conditional, labels (B,); `rng` is not read.

        A conditional logit is the product of features and the label's embedding (Miyato and Koyama 2018,
        arXiv:1802.05637) and nothing beside it.
        """
        maps = self.layers(images.contiguous(memory_format=torch.channels_last))
        with torch.autocast(images.device.type, enabled=False):
            features: Tensor = self.logit(self.last(maps.float()).flatten(1))
            if self.embedding is None:
                return features.squeeze(1)
            return (features * _embedded(self.embedding, labels)).sum(dim=1)

    def draw_weights(self, rng: Generator) -> None:
        """Draw initial weights: `_draw_weights`, and embeddings so small that logits do not grow with the width."""
        _draw_weights(self, rng)
        if self.embedding is not None:
            with torch.no_grad():
                self.embedding.weight.mul_(self.embedding.out_features**-0.5)


def _blocks(width: int, count: int) -> nn.Sequential:
    return nn.Sequential(*(R3ganBlock(width) for _ in range(count)))


def _embedded(embedding: nn.Linear, labels: Tensor | None) -> Tensor:
    """Return the embeddings (B, E) of labels (B,)."""
    if labels is None:
        raise ValueError(f"a network of {embedding.in_features} classes takes labels")
    result: Tensor = embedding(one_hot(labels, embedding.in_features).to(embedding.weight.dtype))
    return result


@torch.no_grad()
def _draw_weights(network: nn.Module, rng: Generator) -> None:
    """Draw N(0, 1 / fan_in); in blocks g^2 / fan_in with g^2 = 2 / (1 + slope^2) / sqrt(L), and 0 for the last layer.

    With L blocks each block's two inner layers are L^(-1/4) as large as He et al. 2015 (arXiv:1502.01852) have it, and
    each residual begins at zero: Fixup (Zhang et al. 2019, arXiv:1901.09321) for blocks of three layers.
    """
    blocks = [module for module in network.modules() if isinstance(module, R3ganBlock)]
    gain = (2 / (1 + SLOPE**2)) ** 0.5 * len(blocks) ** -0.25
    gains = {layer: value for block in blocks for layer, value in _gains(block, gain)}
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            nn.init.normal_(layer.weight, 0.0, gains.get(layer, 1.0) * layer.weight[0].numel() ** -0.5, generator=rng)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


def _gains(block: R3ganBlock, gain: float) -> Iterator[tuple[nn.Module, float]]:
    yield from ((block.widen, gain), (block.mix, gain), (block.narrow, 0.0))
