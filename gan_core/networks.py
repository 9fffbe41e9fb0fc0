"""The players: the multilayer perceptrons of Goodfellow et al. 2014 and a convolutional pair after Radford et al. 2015.

Images are (B, C, H, W) in [-1, 1] with H = W between 8 and 64 and C of 1 or 3; logits are (B,).
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise

import torch
from torch import Generator, Tensor, nn
from torch.nn.functional import linear

from gan_core.config import LARGEST_SIZE, SMALLEST_SIZE, NetworkConfig
from gan_core.layers import BatchNorm, Maxout, dropped
from gan_core.randomness import stream

MEAN_OF = 60_000
"""Images, at most, whose mean a generator starts around: a mean's error is then 1 grey level of 255 at most."""


class MlpGenerator(nn.Module):
    """Two rectifier layers and a sigmoid: Goodfellow et al. 2014, section 5. The sigmoid is scaled to [-1, 1]."""

    def __init__(self, config: NetworkConfig, size: int, channels: int) -> None:
        super().__init__()
        self.shape = (channels, size, size)
        width = config.generator_width
        self.layers = nn.Sequential(
            nn.Linear(config.z_dim, width),
            nn.ReLU(),
            nn.Linear(width, width),
            nn.ReLU(),
            nn.Linear(width, channels * size * size),
        )

    def forward(self, z: Tensor) -> Tensor:
        """Return images (B, C, H, W) in [-1, 1] for z (B, Z): 2 sigmoid(a) - 1 = tanh(a / 2)."""
        return torch.tanh(self.layers(z) / 2).reshape(-1, *self.shape)

    @torch.no_grad()
    def set_output_bias(self, images: Tensor) -> None:
        """Start around the mean image: each output's bias becomes the inverse sigmoid of its pixel's mean.

        As in the authors' mnist.yaml (goodfeli/adversarial, `init_sigmoid_bias_from_marginals`). Means are kept half a
        grey level away from black and white, where the sigmoid would have no gradient. Of more than `MEAN_OF` images
        every so-manieth is looked at.

        Args:
            images: (N, C, H, W) uint8, on any device.
        """
        some = images[:: -(-len(images) // MEAN_OF)]
        # Part by part, for torch converts all that it sums at once.
        sums = torch.stack([part.sum(dim=0, dtype=torch.int64) for part in some.split(1000)]).sum(dim=0)
        means = sums.double() / (255 * len(some))
        bias = means.clamp(1 / 510, 1 - 1 / 510).logit().flatten()
        outputs = self.layers[-1]
        assert isinstance(outputs, nn.Linear)
        outputs.bias.copy_(bias)


class MlpDiscriminator(nn.Module):
    """Two maxout layers with dropout and a linear unit: Goodfellow et al. 2014, section 5."""

    def __init__(self, config: NetworkConfig, size: int, channels: int) -> None:
        super().__init__()
        width, pieces = config.discriminator_width, config.maxout_pieces
        self.dropout = config.dropout
        self.first = Maxout(channels * size * size, width, pieces)
        self.second = Maxout(width, width, pieces)
        self.logit = nn.Linear(width, 1)

    def forward(self, images: Tensor, rng: Generator | None = None) -> Tensor:
        """Return logits (B,) for images (B, C, H, W); dropout acts where `rng` is given, which training does."""
        x = images.flatten(1)
        for layer in (self.first, self.second):
            x = layer(x)
            if rng is not None and self.dropout > 0:
                x = dropped(x, self.dropout, rng)
        logits: Tensor = self.logit(x)
        return logits.squeeze(1)


def _sides(size: int) -> list[int]:
    """Return the sides of the feature maps from the image down to at most 4 pixels: 28 gives [28, 14, 7, 4]."""
    sides = [size]
    while sides[-1] > 4:
        sides.append((sides[-1] + 1) // 2)
    return sides


def _kernel(side: int) -> int:
    """Return the kernel that, with stride 2 and padding 1, halves `side` rounding up: 4 for even sides, 3 for odd."""
    return 4 if side % 2 == 0 else 3


def _channels(width: int, level: int) -> int:
    """Return the channels after `level` halvings of the image: twice as many as one level above."""
    return width << (level - 1)


class DcganGenerator(nn.Module):
    """Transposed convolutions with batch normalisation and rectifiers up to a tanh: Radford et al. 2015, section 3."""

    def __init__(self, config: NetworkConfig, size: int, channels: int) -> None:
        super().__init__()
        sides, width = _sides(size), config.generator_width
        top = len(sides) - 1
        self.base = (_channels(width, top), sides[-1], sides[-1])
        self.project = nn.Linear(config.z_dim, self.base[0] * sides[-1] ** 2, bias=False)
        layers: list[nn.Module] = [BatchNorm(self.base[0]), nn.ReLU(inplace=True)]
        for level in range(top, 1, -1):
            outputs = _channels(width, level - 1)
            kernel = _kernel(sides[level - 1])
            layers += [
                nn.ConvTranspose2d(_channels(width, level), outputs, kernel, stride=2, padding=1, bias=False),
                BatchNorm(outputs),
                nn.ReLU(inplace=True),
            ]
        layers += [nn.ConvTranspose2d(width, channels, _kernel(size), stride=2, padding=1), nn.Tanh()]
        self.layers = nn.Sequential(*layers)

    def forward(self, z: Tensor) -> Tensor:
        """Return images (B, C, H, W) in [-1, 1] for z (B, Z)."""
        base = self.project(z).reshape(-1, *self.base)
        images: Tensor = self.layers(base.contiguous(memory_format=torch.channels_last))
        return images


class DcganDiscriminator(nn.Module):
    """Strided convolutions with batch normalisation and leaky rectifiers: Radford et al. 2015, section 3."""

    def __init__(self, config: NetworkConfig, size: int, channels: int) -> None:
        super().__init__()
        sides, width = _sides(size), config.discriminator_width
        first = nn.Conv2d(channels, width, _kernel(size), stride=2, padding=1)
        layers: list[nn.Module] = [first, nn.LeakyReLU(0.2, inplace=True)]
        for level, (side, _) in enumerate(pairwise(sides[1:]), start=1):
            outputs = _channels(width, level + 1)
            layers += [
                nn.Conv2d(_channels(width, level), outputs, _kernel(side), stride=2, padding=1, bias=False),
                BatchNorm(outputs),
                nn.LeakyReLU(0.2, inplace=True),
            ]
        self.layers = nn.Sequential(*layers)
        self.logit = nn.Linear(_channels(width, len(sides) - 1) * sides[-1] ** 2, 1)

    def forward(self, images: Tensor, rng: Generator | None = None) -> Tensor:
        """Return logits (B,) for images (B, C, H, W); `rng` is not read: this family draws nothing."""
        features: Tensor = self.layers(images)
        weight = self.logit.weight.reshape(1, *features.shape[1:])
        # Flattened as they lie in memory: gradients in another order would be ten times as slow through the layers.
        rows, row = (x.permute(0, 2, 3, 1).flatten(1) for x in (features, weight))
        return linear(rows, row, self.logit.bias).squeeze(1)


GENERATORS = {"mlp": MlpGenerator, "dcgan": DcganGenerator}
DISCRIMINATORS = {"mlp": MlpDiscriminator, "dcgan": DcganDiscriminator}


def maxout_gain(pieces: int) -> float:
    """Return E max(n_1, ..., n_k)^2 for k independent standard normals: 1 for 1 and 2 pieces, 1.8 for 5.

    It is what a maxout unit makes of its linear maps' mean square, where a rectifier halves it (He et al. 2015,
    arXiv:1502.01852, equation 10). With a rectifier's weights the logits of an untrained discriminator of two such
    layers with 5 pieces are 3.6 times as large, and the generator follows its noise.
    """
    x = torch.linspace(-10, 10, 20001, dtype=torch.float64)
    density = pieces * torch.exp(-x.square() / 2) / math.sqrt(2 * math.pi) * torch.special.ndtr(x) ** (pieces - 1)
    return torch.trapezoid(x.square() * density, x).item()


def initialised(network: nn.Module, rng: Generator) -> nn.Module:
    """Return the network with weights drawn from `rng`: N(0, 0.02) for convolutions, He's for linear layers.

    He's keep the mean square of a layer's outputs at 1 after its rectifier, or after its maximum over pieces.
    """
    gains = {module.linear: maxout_gain(module.pieces) for module in network.modules() if isinstance(module, Maxout)}
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.normal_(module.weight, 0.0, 0.02, generator=rng)
        elif isinstance(module, nn.Linear):
            gain = gains.get(module, 0.5)
            nn.init.normal_(module.weight, 0.0, (gain * module.in_features) ** -0.5, generator=rng)
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear) and module.bias is not None:
            nn.init.zeros_(module.bias)
    return network


def build_generator(config: NetworkConfig, *, size: int, channels: int, seed: int) -> nn.Module:
    """Return a generator on the CPU, its weights drawn from `seed`.

    Args:
        config: family, latent space and widths.
        size: side of the images, 8 to 64 pixels, odd ones included.
        channels: 1 or 3.
        seed: of the initial weights, at least 0.

    Returns:
        A module that maps z (B, Z) to images (B, C, size, size) in [-1, 1].

    Raises:
        ValueError: the size or the number of channels is not supported.
    """
    _check_shape(size, channels)
    return initialised(GENERATORS[config.family](config, size, channels), stream(seed, "generator weights"))


def build_discriminator(config: NetworkConfig, *, size: int, channels: int, seed: int) -> nn.Module:
    """Return a discriminator on the CPU, its weights drawn from `seed`.

    Args:
        config: family and widths.
        size: side of the images, 8 to 64 pixels, odd ones included.
        channels: 1 or 3.
        seed: of the initial weights, at least 0.

    Returns:
        A module that maps images (B, C, size, size) and an optional `torch.Generator` to logits (B,).

    Raises:
        ValueError: the size or the number of channels is not supported.
    """
    _check_shape(size, channels)
    return initialised(DISCRIMINATORS[config.family](config, size, channels), stream(seed, "discriminator weights"))


def _check_shape(size: int, channels: int) -> None:
    if not SMALLEST_SIZE <= size <= LARGEST_SIZE:
        raise ValueError(f"image size must be between {SMALLEST_SIZE} and {LARGEST_SIZE} pixels, got {size}")
    if channels not in (1, 3):
        raise ValueError(f"channels must be 1 or 3, got {channels}")


@contextmanager
def frozen_statistics(network: nn.Module) -> Iterator[None]:
    """Keep the running statistics of batch normalisation as they are, so that a forward pass changes no bit.

    Args:
        network: normalises by its batch while this context is open, as in training, but does not record it.

    Yields:
        Nothing.
    """
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        norm.track_running_stats = False
    try:
        yield
    finally:
        for norm in norms:
            norm.track_running_stats = True
