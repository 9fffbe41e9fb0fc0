"""The multilayer perceptrons of Goodfellow et al. 2014, section 5."""

import math

import torch
from torch import Generator, Tensor, nn

from gan_core.config import NetworkConfig
from gan_core.networks.layers import Maxout, dropped

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


def maxout_gain(pieces: int) -> float:
    """Return E max(n_1, ..., n_k)^2 for k independent standard normals: 1 for 1 and 2 pieces, 1.8 for 5.

    It is what a maxout unit makes of its linear maps' mean square, where a rectifier halves it (He et al. 2015,
    arXiv:1502.01852, equation 10). With a rectifier's weights the logits of an untrained discriminator of two such
    layers with 5 pieces are 3.6 times as large, and the generator follows its noise.
    """
    x = torch.linspace(-10, 10, 20001, dtype=torch.float64)
    density = pieces * torch.exp(-x.square() / 2) / math.sqrt(2 * math.pi) * torch.special.ndtr(x) ** (pieces - 1)
    return torch.trapezoid(x.square() * density, x).item()
