"""Colour transforms composed into one matrix: Karras et al. 2020, arXiv:2006.06676, appendix B."""

import math

import torch
from torch import Tensor

from gan_core.augmentation.geometry import normal

DRAWS = 10


def recoloured(images: Tensor, draws: Tensor, probability: Tensor) -> Tensor:
    """Return images (B, C, H, H) in other colours; an image that draws no transform as it is, bit for bit.

    Each with `probability`: brightness plus N(0, 0.2), contrast times 2^N(0, 0.5), luma reversed (1/2), hue turned by
    any angle, saturation times 2^N(0, 1). With P the projection of a pixel's channels onto their mean and K the
    rotation's generator about the grey axis, all five together map x to

        f c (P x + b) + c s (cos(h) (I - P) + sin(h) K) x.

    One channel has only the first term, in which P is 1.

    Args:
        images: C is 1 or 3.
        draws: (B, `DRAWS`), uniform in [0, 1).
        probability: scalar in [0, 1].

    Returns:
        Images of the same shape, not clamped.
    """
    columns = iter(draws.unbind(1))

    def gated(value: Tensor) -> Tensor:
        return torch.where(next(columns) < probability, value, 0.0)

    brightness = gated(0.2 * normal(next(columns)))
    contrast = gated(0.5 * normal(next(columns)))
    flip = gated((2 * next(columns)).floor())
    hue = gated(2 * math.pi * next(columns))
    saturation = gated(normal(next(columns)))
    neutral = torch.stack([brightness, contrast, flip, hue, saturation]).eq(0).all(dim=0)
    gain = (1 - 2 * flip) * contrast.exp2()
    offset = gain * brightness
    if images.shape[1] == 1:
        result = gain[:, None, None, None] * images + offset[:, None, None, None]
    else:
        matrix = _matrix(gain, (contrast + saturation).exp2(), hue)
        result = (matrix @ images.flatten(2) + offset[:, None, None]).view_as(images)
    return torch.where(neutral[:, None, None, None], images, result)


def _matrix(grey: Tensor, chroma: Tensor, hue: Tensor) -> Tensor:
    """Return grey P + chroma (cos(hue) (I - P) + sin(hue) K), (B, 3, 3), for factors and angles (B,)."""
    unit = torch.eye(3, dtype=grey.dtype, device=grey.device)
    ones = torch.ones_like(unit)
    mean, turned = ones / 3, torch.linalg.cross(unit, ones) / math.sqrt(3)
    grey, chroma, hue = (values[:, None, None] for values in (grey, chroma, hue))
    matrix: Tensor = grey * mean + chroma * (hue.cos() * (unit - mean) + hue.sin() * turned)
    return matrix
