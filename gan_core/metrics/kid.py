"""KID of one set of images with what each image adds to it, and how sure the difference of two generators is.

KID (Binkowski et al. 2018, section 3) is the squared maximum mean discrepancy under k(x, y) = (x.y / F + 1)^3. Its
unbiased estimate is a U-statistic: from few images as right on average as from many, and asymptotically normal, with a
variance that the images' own shares give (Bounliphone et al. 2016, arXiv:1511.04581, test by it which of two
generators is nearer to the data).
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from gan_core.metrics.intervals import Interval

AT_ONCE = 1000
"""Rows of kernel values in memory at once."""
QUANTILE = 1.959964
"""Of the normal distribution: 95 % lie within so many deviations of the mean."""


@dataclass(frozen=True)
class Kid:
    """An estimate, and its first-order change with each generated (N,) and each real image (M,), of mean 0, float64."""

    value: float
    by_generated: Tensor
    by_real: Tensor


def kid(generated: Tensor, real: Tensor) -> Kid:
    """Return the unbiased estimate from features of generated (N, F) and real images (M, F), on the CPU.

    With a_i, b_j the mean kernel of a generated or real image and all others of its kind, and c_i, d_j that with all
    of the other kind, KID = mean a + mean b - 2 mean c, and the changes are 2 (a_i - c_i) and 2 (b_j - d_j) less their
    means. N and M are at least 2.
    """
    generated, real = generated.double(), real.double()
    a, b = _among(generated), _among(real)
    c, d = (sums / len(other) for sums, other in zip(_sums(generated, real), (real, generated), strict=True))
    changes = (2 * (a - c), 2 * (b - d))
    value = (a.mean() + b.mean() - 2 * c.mean()).item()
    return Kid(value, *(change - change.mean() for change in changes))


def difference(first: Kid, other: Kid) -> Interval:
    """Return the first KID less the other, with its 95 % interval over other latents and other real images.

    Both are of the same latents, one by one, and the same real images, so what an image adds to both cancels: the
    interval is much narrower than that of either. It is approximate, and too wide if both are near 0.
    """
    value, half = first.value - other.value, QUANTILE * _deviation(first, other)
    return Interval(value, value - half, value + half)


def p_value(first: Kid, other: Kid) -> float:
    """Return the probability that the first KID is as far below the other by chance, if both generators are as good.

    Images are paired as in `difference`. Of generators that make the same images it is 1.
    """
    deviation = _deviation(first, other)
    if deviation == 0:
        return 0.0 if first.value < other.value else 1.0
    return math.erfc((other.value - first.value) / deviation / math.sqrt(2)) / 2


def multiple(first: Kid, unit: Kid) -> float | None:
    """Return how many times as large as the other the first KID is; None if the other is 0 up to noise."""
    nothing = Kid(0.0, torch.zeros_like(unit.by_generated), torch.zeros_like(unit.by_real))
    return first.value / unit.value if unit.value > QUANTILE * _deviation(unit, nothing) else None


def _deviation(first: Kid, other: Kid) -> float:
    """Return the standard deviation of the difference."""
    changes = (first.by_generated - other.by_generated, first.by_real - other.by_real)
    return math.sqrt(sum(change.var().item() / len(change) for change in changes))


def _among(features: Tensor) -> Tensor:
    """Return the mean kernel of each image and all others (N,)."""
    itself = (features.square().mean(dim=1) + 1) ** 3
    return (_sums(features, features)[0] - itself) / (len(features) - 1)


def _sums(first: Tensor, other: Tensor) -> tuple[Tensor, Tensor]:
    """Return the sums of kernels of each image of one set (N,) and of each of the other (M,)."""
    of_first, of_other = list[Tensor](), torch.zeros(len(other), dtype=first.dtype)
    for rows in first.split(AT_ONCE):
        kernel = (rows @ other.T / first.shape[1] + 1) ** 3
        of_first.append(kernel.sum(dim=1))
        of_other += kernel.sum(dim=0)
    return torch.cat(of_first), of_other
