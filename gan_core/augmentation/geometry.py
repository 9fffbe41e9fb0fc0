"""Geometric transforms composed into one and executed once: Karras et al. 2020, arXiv:2006.06676, appendix B.

Coordinates are relative to the centre of an image and divided by (H - 1) / 2, so the centres of its outermost pixels
are at -1 and 1.
"""

import math
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import grid_sample

DRAWS = 18
SYM6 = (
    *(0.015404109327027373, 0.0034907120842174702, -0.11799011114819057, -0.048311742585633),
    *(0.4910559419267466, 0.787641141030194, 0.3379294217276218, -0.07263752278646252),
    *(-0.021060292512300564, 0.04472490177066578, 0.0017677118642428036, -0.007800708325034148),
)
"""Low-pass filter of Daubechies' least asymmetric wavelet with six vanishing moments; its even shifts are orthonormal,
so doubling the resolution by it and halving it again is the identity."""
DELAY = 0.5 * (5.5 - sum(place * tap for place, tap in enumerate(SYM6)) / sum(SYM6))
"""Of its centre of mass, in pixels: without it, what is reversed or turned would be shifted by up to 0.4 pixels."""


def drawn_geometry(draws: Tensor, probability: Tensor, side: int) -> Tensor:
    """Return, for each image, the matrix (3, 3) that maps a place of the result to the place of the image shown there.

    Each with `probability`: mirror image (1/2), quarter turns, a shift by whole pixels within an eighth of the side, a
    scale of 2^N(0, 0.2), a rotation by any angle, a ratio of axes of 2^N(0, 0.2), a second rotation, a fractional shift
    of N(0, 0.125) sides. Both rotations have 1 - sqrt(1 - p), so that one of them is drawn with p.

    Args:
        draws: (B, `DRAWS`), uniform in [0, 1).
        probability: scalar in [0, 1].
        side: of the images, in pixels.

    Returns:
        (B, 3, 3); exactly the unit matrix for an image that draws no transform.
    """
    columns = iter(draws.unbind(1))

    def gated(value: Tensor, chance: Tensor = probability, neutral: float = 0.0) -> Tensor:
        return torch.where(next(columns) < chance, value, neutral)

    pixel, turn = 2 / (side - 1), 1 - (1 - probability).sqrt()
    mirror = gated((2 * next(columns)).floor())
    quarters = gated((4 * next(columns)).floor())
    x, y = (((2 * next(columns) - 1) * 0.125 * side).round() * pixel for _ in range(2))
    gate = gated(torch.ones_like(x))
    inverse = _scaling(1 - 2 * mirror, torch.ones_like(mirror)) @ _rotation(quarters * (math.pi / 2))
    inverse = inverse @ _shift(gate * x, gate * y)
    scale = gated(0.2 * normal(next(columns))).exp2()
    inverse = inverse @ _scaling(scale, scale)
    inverse = inverse @ _rotation(gated(2 * math.pi * next(columns), turn))
    ratio = gated(0.2 * normal(next(columns)))
    inverse = inverse @ _scaling(ratio.exp2(), (-ratio).exp2())
    inverse = inverse @ _rotation(gated(2 * math.pi * next(columns), turn))
    x, y = (normal(next(columns)) * (0.125 * side * pixel) for _ in range(2))
    gate = gated(torch.ones_like(x))
    composed: Tensor = inverse @ _shift(gate * x, gate * y)
    return composed


def transformed(images: Tensor, inverse: Tensor) -> Tensor:
    """Return images (B, C, H, H) as the matrices (B, 3, 3) of `drawn_geometry` map them; with the unit matrix, as is.

    An image is continued by reflection, its resolution doubled by SYM6, interpolated linearly at the mapped places,
    and halved by SYM6, so that little of it is blurred or aliased.
    """
    side = images.shape[-1]
    double, halve, places = _filters(side, images.dtype, images.device)
    grid = places @ inverse[:, None, :2].mT - 2 * DELAY / (side - 1)
    sampled: Tensor = _Sampled.apply(double @ images @ double.mT, grid)
    result = halve @ sampled @ halve.mT
    unchanged = (inverse == torch.eye(3, dtype=inverse.dtype, device=inverse.device)).all(dim=2).all(dim=1)
    return torch.where(unchanged[:, None, None, None], images, result)


def normal(uniform: Tensor) -> Tensor:
    """Return standard normal numbers for uniform ones in [0, 1): the inverse of their distribution function."""
    normals: Tensor = torch.special.ndtri(uniform.clamp(min=2.0**-25))
    return normals


def _affine(a: Tensor, b: Tensor, c: Tensor, d: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Return the maps (B, 3, 3) of places (u, v) to (a u + b v + x, c u + d v + y)."""
    zero, one = torch.zeros_like(a), torch.ones_like(a)
    return torch.stack([a, b, x, c, d, y, zero, zero, one], dim=1).view(-1, 3, 3)


def _scaling(x: Tensor, y: Tensor) -> Tensor:
    zero = torch.zeros_like(x)
    return _affine(x, zero, zero, y, zero, zero)


def _rotation(angle: Tensor) -> Tensor:
    zero = torch.zeros_like(angle)
    return _affine(angle.cos(), -angle.sin(), angle.sin(), angle.cos(), zero, zero)


def _shift(x: Tensor, y: Tensor) -> Tensor:
    zero, one = torch.zeros_like(x), torch.ones_like(x)
    return _affine(one, zero, zero, one, x, y)


@lru_cache(maxsize=8)  # a captured step may not copy them to the device
def _filters(side: int, dtype: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Return the matrices that double (2 H - 2, H) and halve (H, 2 H + 10) the resolution, and what is interpolated.

    Doubled samples are a quarter of a pixel to both sides of each pixel, from the centre of the first one to that of
    the last, about which grid_sample reflects. Interpolated are as many as halving reads: (2 H + 10, 2 H + 10, 3), in
    homogeneous coordinates.
    """
    taps = torch.tensor(SYM6, dtype=torch.float64)
    length, reach = 2 * side + len(taps) - 2, 3
    halve = torch.zeros(side, length, dtype=torch.float64)
    for pixel in range(side):
        halve[pixel, 2 * pixel : 2 * pixel + len(taps)] = taps / math.sqrt(2)
    double = torch.zeros(2 * side - 2, side, dtype=torch.float64)
    for pixel in range(-reach, side + reach):
        within = abs(pixel) if pixel < side else 2 * side - 2 - pixel
        for tap, weight in enumerate(taps.tolist()):
            sample = tap + 2 * pixel - len(taps) // 2
            if 0 <= sample < len(double):
                double[sample, within] += math.sqrt(2) * weight
    centre = (side - 1) / 2
    line = (torch.arange(length, dtype=torch.float64) / 2 - (len(taps) - 1) / 4 + DELAY - centre) / centre
    y, x = torch.meshgrid(line, line, indexing="ij")
    places = torch.stack([x, y, torch.ones_like(x)], dim=-1)
    return double.to(device, dtype), halve.to(device, dtype), places.to(device, dtype)


class _Sampled(torch.autograd.Function):
    """`grid_sample` of reflected images, which is linear in them; torch's own cannot be differentiated twice."""

    @staticmethod
    def forward(context: Any, images: Tensor, grid: Tensor) -> Tensor:
        context.save_for_backward(grid)
        context.shape = images.shape
        return grid_sample(images, grid, mode="bilinear", padding_mode="reflection", align_corners=False)

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (grid,) = context.saved_tensors
        return _Adjoint.apply(gradients[0], grid, context.shape), None


class _Adjoint(torch.autograd.Function):
    """The transpose of `_Sampled`, whose own transpose that is again."""

    @staticmethod
    def forward(context: Any, gradient: Tensor, grid: Tensor, shape: torch.Size) -> Tensor:
        context.save_for_backward(grid)
        bilinear, reflection = 0, 2
        images = gradient.new_empty(shape)  # only its shape is read
        back: Tensor = torch.ops.aten.grid_sampler_2d_backward(
            gradient.contiguous(), images, grid, bilinear, reflection, False, [True, False]
        )[0]
        return back

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        (grid,) = context.saved_tensors
        return _Sampled.apply(gradients[0], grid), None, None
