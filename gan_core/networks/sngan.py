"""The residual pair of Miyato et al. 2018 (arXiv:1802.05957), with spectral normalisation in the discriminator.

Numbers and initial weights are those of mimicry (Lee and Town 2020, arXiv:2005.02494) at 32 pixels; larger images get a
level more for each doubling, half as wide. With labels it is the projection cGAN of Miyato and Koyama 2018
(arXiv:1802.05637), without theirs in the generator's last normalisation.
"""

from itertools import pairwise

import torch
from torch import Generator, Tensor, nn
from torch.nn.functional import avg_pool2d, embedding, linear, relu

from gan_core.config import SnganConfig
from gan_core.networks.convolution import Convolution
from gan_core.networks.layers import BatchNorm, SpectralNorm
from gan_core.networks.resampling import pyramid, upsampled


class SnganGenerator(nn.Module):
    """A linear layer to 4x4 maps, residual blocks that double them, batch normalisation, a convolution, tanh."""

    def __init__(self, config: SnganConfig, size: int, channels: int, classes: int = 0) -> None:
        super().__init__()
        widths = pyramid(config.generator_width, size)
        self.base = (widths[0], 4, 4)
        self.project = nn.Linear(config.z_dim, widths[0] * 16)
        self.blocks = nn.ModuleList(_UpBlock(below, width, classes) for below, width in pairwise(widths))
        self.norm = BatchNorm(widths[-1])
        self.pixels = Convolution(widths[-1], channels, 3, padding=1)

    def forward(self, z: Tensor, labels: Tensor | None = None) -> Tensor:
        """Return images (B, C, H, W) in [-1, 1] for z (B, Z) and, if conditional, labels (B,) int64."""
        maps = self.project(z).reshape(-1, *self.base).contiguous(memory_format=torch.channels_last)
        for block in self.blocks:
            maps = block(maps, labels)
        return torch.tanh(self.pixels(relu(self.norm(maps))).float())

    def draw_weights(self, rng: Generator) -> None:
        """Draw initial weights, see `_draw_weights`."""
        _draw_weights(self, rng)


class SnganDiscriminator(nn.Module):
    """Residual blocks that halve the image to 8 pixels, two more, the sum over positions, a linear layer."""

    def __init__(self, config: SnganConfig, size: int, channels: int, classes: int = 0) -> None:
        super().__init__()
        widths = pyramid(config.discriminator_width, size)[:0:-1]  # from the image down to 8 pixels
        last = widths[-1]
        blocks = [_DownBlock(inputs, outputs, halves=True) for inputs, outputs in pairwise([channels, *widths[:-1]])]
        blocks += [_DownBlock(widths[-2] if blocks else channels, last), _DownBlock(last, last)]
        blocks[0].first = True
        self.blocks = nn.Sequential(*blocks)
        self.logit = _SpectralLinear(last, 1)
        self.embedding = _SpectralEmbedding(classes, last) if classes else None

    def forward(self, images: Tensor, rng: Generator | None = None, labels: Tensor | None = None) -> Tensor:
        """Return logits (B,) for images (B, C, H, W) and, if conditional, labels (B,); `rng` is not read.

        A conditional logit is linear in the features, plus their product with the label's embedding.
        """
        features = relu(self.blocks(images.contiguous(memory_format=torch.channels_last))).float().sum(dim=(2, 3))
        with torch.autocast(images.device.type, enabled=False):
            logits: Tensor = self.logit(features).squeeze(1)
            return logits if self.embedding is None else logits + (self.embedding(labels) * features).sum(dim=1)

    def draw_weights(self, rng: Generator) -> None:
        """Draw initial weights, see `_draw_weights`."""
        _draw_weights(self, rng)


class ConditionalBatchNorm(nn.Module):
    """Batch normalisation with a gain and a shift for each class: de Vries et al. 2017, arXiv:1707.00683, section 4."""

    def __init__(self, width: int, classes: int) -> None:
        super().__init__()
        self.norm = BatchNorm(width, affine=False)
        self.gain, self.shift = nn.Parameter(torch.ones(classes, width)), nn.Parameter(torch.zeros(classes, width))

    def forward(self, x: Tensor, labels: Tensor) -> Tensor:
        """Return (B, C, H, W) for x of this shape and labels (B,)."""
        gain, shift = (embedding(labels, table)[:, :, None, None] for table in (self.gain, self.shift))
        result: Tensor = self.norm(x) * gain + shift
        return result


class _UpBlock(nn.Module):
    """Normalise, rectify, double, convolve, normalise, rectify, convolve; beside it, double and convolve by 1x1."""

    def __init__(self, inputs: int, outputs: int, classes: int) -> None:
        super().__init__()
        self.norms = nn.ModuleList(
            ConditionalBatchNorm(width, classes) if classes else BatchNorm(width) for width in (inputs, outputs)
        )
        # Without biases, which the normalisation that follows would take away.
        self.inner = nn.ModuleList(Convolution(width, outputs, 3, padding=1, bias=False) for width in (inputs, outputs))
        self.beside = Convolution(inputs, outputs, 1, bias=False)

    def forward(self, x: Tensor, labels: Tensor | None) -> Tensor:
        labelled = () if labels is None else (labels,)
        maps: Tensor = self.inner[0](_bilinear(relu(self.norms[0](x, *labelled))))
        maps = self.inner[1](relu(self.norms[1](maps, *labelled)))
        beside: Tensor = _bilinear(self.beside(x))  # the same as convolving what was doubled
        return maps + beside


class _DownBlock(nn.Module):
    """Rectify, convolve, rectify, convolve, perhaps halve; beside it, halve too, and convolve by 1x1 if shapes differ.

    The `first` block reads the image and does not rectify it.
    """

    def __init__(self, inputs: int, outputs: int, *, halves: bool = False) -> None:
        super().__init__()
        self.halves, self.first = halves, False
        self.inner = nn.ModuleList(_SpectralConvolution(width, outputs, 3, padding=1) for width in (inputs, outputs))
        self.beside = _SpectralConvolution(inputs, outputs, 1) if halves or inputs != outputs else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        maps: Tensor = self.inner[1](relu(self.inner[0](x if self.first else relu(x))))
        beside: Tensor = self.beside(self._halved(x))
        return self._halved(maps) + beside

    def _halved(self, x: Tensor) -> Tensor:
        return avg_pool2d(x, 2) if self.halves else x


class _SpectralConvolution(Convolution):
    def __init__(self, inputs: int, outputs: int, kernel: int, padding: int = 0) -> None:
        super().__init__(inputs, outputs, kernel, padding=padding)
        self.norm = SpectralNorm(outputs)

    def forward(self, x: Tensor) -> Tensor:
        return self.convolved(x, self.norm(self.weight))


class _SpectralLinear(nn.Linear):
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs)
        self.norm = SpectralNorm(outputs)

    def forward(self, x: Tensor) -> Tensor:
        return linear(x, self.norm(self.weight), self.bias)


class _SpectralEmbedding(nn.Embedding):
    def __init__(self, classes: int, width: int) -> None:
        super().__init__(classes, width)
        self.norm = SpectralNorm(classes)

    def forward(self, labels: Tensor) -> Tensor:
        return embedding(labels, self.norm(self.weight))


def _bilinear(x: Tensor) -> Tensor:
    """Return maps twice as large, interpolated, and as if the outermost pixels went on beyond the border."""
    maps = upsampled(x)
    height, width = (_inverse_border(side, maps) for side in maps.shape[2:])
    return maps * (height[:, None] * width)


def _inverse_border(side: int, maps: Tensor) -> Tensor:
    """Return 4 / 3 at both ends, by which zeros beyond the border lower them, and 1 between."""
    position = torch.arange(side, device=maps.device)
    return 1 + ((position == 0) | (position == side - 1)).to(maps.dtype) / 3


@torch.no_grad()
def _draw_weights(network: nn.Module, rng: Generator) -> None:
    """Draw Xavier's uniform weights (Glorot and Bengio 2010, equation 16), within blocks sqrt(2) as large; biases 0."""
    inner = {
        layer for module in network.modules() if isinstance(module, _UpBlock | _DownBlock) for layer in module.inner
    }
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear | nn.Embedding):
            nn.init.xavier_uniform_(layer.weight, 2**0.5 if layer in inner else 1.0, generator=rng)
        if isinstance(layer, nn.Conv2d | nn.Linear) and layer.bias is not None:
            nn.init.zeros_(layer.bias)
        if isinstance(layer, SpectralNorm):
            layer.draw(rng)
