"""The convolutional pair of Radford et al. 2015 (arXiv:1511.06434)."""

from itertools import pairwise

import torch
from torch import Generator, Tensor, nn
from torch.nn.functional import linear

from gan_core.config import DcganConfig
from gan_core.networks.layers import BatchNorm, Projection, beside_label


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
    """Return the channels after `level` halvings of the image: twice as many as one level above, up to 8 times.

    Radford et al. 2015, figure 1, has 128 to 1024 at 64 pixels; larger images get more levels, but none is wider.
    """
    return width << min(level - 1, 3)


class DcganGenerator(nn.Module):
    """Transposed convolutions with batch normalisation and rectifiers up to a tanh: Radford et al. 2015, section 3.

    With `classes` it reads an embedding of the label, as wide as z, beside z.
    """

    def __init__(self, config: DcganConfig, size: int, channels: int, classes: int = 0) -> None:
        super().__init__()
        sides, width = _sides(size), config.generator_width
        top = len(sides) - 1
        self.base = (_channels(width, top), sides[-1], sides[-1])
        self.embed = nn.Embedding(classes, config.z_dim) if classes else None
        self.project = nn.Linear(config.z_dim * (2 if classes else 1), self.base[0] * sides[-1] ** 2, bias=False)
        layers: list[nn.Module] = [BatchNorm(self.base[0]), nn.ReLU(inplace=True)]
        for level in range(top, 1, -1):
            outputs = _channels(width, level - 1)
            kernel = _kernel(sides[level - 1])
            layers += [
                nn.ConvTranspose2d(_channels(width, level), outputs, kernel, stride=2, padding=1, bias=False),
                BatchNorm(outputs),
                nn.ReLU(inplace=True),
            ]
        layers.append(nn.ConvTranspose2d(width, channels, _kernel(size), stride=2, padding=1))
        self.layers = nn.Sequential(*layers)

    def forward(self, z: Tensor, labels: Tensor | None = None) -> Tensor:
        """Return images (B, C, H, W) in [-1, 1] for z (B, Z) and labels (B,)."""
        base = self.project(beside_label(z, self.embed, labels)).reshape(-1, *self.base)
        return torch.tanh(self.layers(base.contiguous(memory_format=torch.channels_last)).float())


class DcganDiscriminator(nn.Module):
    """Strided convolutions with batch normalisation and leaky rectifiers: Radford et al. 2015, section 3.

    With `classes` the label is projected onto all features of the last map.
    """

    def __init__(self, config: DcganConfig, size: int, channels: int, classes: int = 0) -> None:
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
        count = _channels(width, len(sides) - 1) * sides[-1] ** 2
        self.logit = nn.Linear(count, 1)
        self.projection = Projection(count, classes) if classes else None

    def forward(self, images: Tensor, rng: Generator | None = None, labels: Tensor | None = None) -> Tensor:
        """Return logits (B,) for images (B, C, H, W) and labels (B,); `rng` is not read: there is no dropout."""
        features: Tensor = self.layers(images)
        weight = self.logit.weight.reshape(1, *features.shape[1:])
        # Flattened as they lie in memory: gradients in another order would be ten times as slow through the layers.
        rows, row = (x.permute(0, 2, 3, 1).flatten(1).float() for x in (features, weight))
        with torch.autocast(images.device.type, enabled=False):
            logits = linear(rows, row, self.logit.bias).squeeze(1)
            return logits if self.projection is None else logits + self.projection(rows, labels)
