"""Pyramids of feature maps from 4 pixels to the image: their widths, and the filter between their levels.

The filter is [1, 3, 3, 1] / 8 along each axis, a smoothed bilinear one, so that no level sees an alias of a finer one
(Karras et al. 2021, arXiv:2106.12423, section 1; Huang et al. 2024, arXiv:2501.05441, section 3.3). Outside of the map
is zero. Up and down are adjoint but for a factor, so each is the other's gradient, of any order. Transposed depthwise
convolutions, which torch would derive, take fifty times as long in bfloat16 on a CPU, and no bit here depends on the
order of atomic additions on a GPU.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import conv2d, interpolate

FULL_WIDTH_TO = 32
"""Pixels up to which levels have the full width; above, each has half of the level below."""
GROUP = 8
"""A level's width is a multiple of it."""


def pyramid(width: int, size: int) -> list[int]:
    """Return the channels of each level from 4 pixels to `size`: 64 at 128 pixels gives 64 at 4 to 32, then 32, 16.

    So the levels above 32 pixels, each with four times the pixels, cost no more than the one below (Huang et al. 2024,
    appendix). No level has fewer channels than `GROUP`, and all have a multiple of it.
    """
    sides = [4 << level for level in range((size // 4).bit_length())]
    return [max(GROUP, width * FULL_WIDTH_TO // max(side, FULL_WIDTH_TO) // GROUP * GROUP) for side in sides]


def upsampled(x: Tensor) -> Tensor:
    """Return maps (B, C, 2 H, 2 W) for x (B, C, H, W): zeros inserted, the filter applied, times 4."""
    result: Tensor = _Up.apply(x, 1.0)
    return result


def downsampled(x: Tensor) -> Tensor:
    """Return maps (B, C, H / 2, W / 2) for x (B, C, H, W) of even sides: the filter with stride 2."""
    result: Tensor = _Down.apply(x, 1.0)
    return result


class _Up(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, x: Tensor, factor: float) -> Tensor:
        """Return `factor` times the upsampled x: bilinear interpolation, less what it takes from beyond the border."""
        context.factor = factor
        with torch.autocast(x.device.type, enabled=False):
            maps = interpolate(x if factor == 1 else x * factor, scale_factor=2, mode="bilinear")
        for border in (maps[:, :, 0], maps[:, :, -1], maps[..., 0], maps[..., -1]):
            border.mul_(0.75)  # interpolation repeats the outermost pixel, which has a quarter there
        return maps

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return _Down.apply(gradients[0], 4 * context.factor), None


class _Down(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, x: Tensor, factor: float) -> Tensor:
        """Return `factor` times the downsampled x."""
        context.factor = factor
        with torch.autocast(x.device.type, enabled=False):
            return conv2d(x, _filter(x, factor), stride=2, padding=1, groups=x.shape[1])

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return _Up.apply(gradients[0], context.factor / 4), None


def _filter(x: Tensor, factor: float) -> Tensor:
    """Return the kernel (C, 1, 4, 4) of x's channels; filled on its device, as a captured step must."""
    position = torch.arange(4, device=x.device)
    taps = 1 + 2 * ((position == 1) | (position == 2)).to(x.dtype)
    kernel = taps[:, None] * taps * (factor / 64)
    return kernel.expand(x.shape[1], 1, 4, 4).contiguous(memory_format=torch.channels_last)
