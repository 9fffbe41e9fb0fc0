r"""The log-likelihood of Goodfellow et al. 2014, section 5: a Gaussian Parzen window on generated images.

A generator gives samples, not densities. The paper puts an isotropic Gaussian of width sigma around each of 10,000
samples s_i and reports, in nats and with pixels in [0, 1], the mean over test images x of

    log p(x) = logmeanexp_i( -||x - s_i||^2 / (2 sigma^2) ) - d/2 log(2 pi sigma^2)

It is the density of generated images *with noise added*, and it is here to compare with the paper's table. It ranks
models badly: in hundreds of dimensions the estimate stays far from the true likelihood whatever the number of samples,
cluster centres of k-means score above the data's own samples, and it is not tied to how good samples look (Theis, van
den Oord and Bethge 2016, arXiv:1511.01844, section 3.3). Therefore no promotion depends on it.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

SAMPLES = 10_000
"""Generated images under the window: `--num_samples` of the authors' parzen_ll.py (goodfeli/adversarial)."""

VALIDATION = 1_000
"""Held-out training images that choose sigma: `--limit_size` there, the first of MNIST's training images 50,000 on."""

SIGMAS = tuple(float(sigma) for sigma in np.logspace(-1, 0, 10))
"""Widths to choose from, in units of the pixels' range [0, 1]: `--sigma_start`, `--sigma_end`, `--cross_val` there."""

TILE = 1_000
"""Points and samples whose distances are in memory at once: 8 MB of them, and 2 x 8 KB a dimension of the images."""


@dataclass(frozen=True)
class ParzenScore:
    """Mean log-likelihood of the test images in nats, its standard error over them, and the sigma that was chosen."""

    mean: float
    standard_error: float
    sigma: float


def parzen(*, samples: Tensor, validation: Tensor, test: Tensor) -> ParzenScore:
    """Return the paper's figure: sigma chosen from `SIGMAS` on validation images, then the mean over test images.

    Args:
        samples: uint8 (N, C, H, W), generated; the paper's protocol has `SAMPLES`.
        validation: uint8 (V, C, H, W), held out of the generator's training; the protocol has `VALIDATION`.
        test: uint8 (T, C, H, W), all test images. Samples may be on a GPU, which then computes, part by part.

    Returns:
        Nats; the standard error is std / sqrt(T) with the authors' std, which divides by T.

    Raises:
        ValueError: one of the three is empty, or their images differ in shape.
    """
    _check(test, samples, SIGMAS)
    sigma = best_sigma(validation, samples)
    nats = log_likelihoods(test, samples, sigma)
    return ParzenScore(nats.mean().item(), nats.std(correction=0).item() / math.sqrt(len(nats)), sigma)


def best_sigma(validation: Tensor, samples: Tensor, sigmas: Sequence[float] = SIGMAS) -> float:
    """Return the one of `sigmas` under which the validation images have the highest mean log-likelihood.

    Images are (V, ...) and (N, ...), of the dtypes of `log_likelihoods`. ValueError is raised if there is no image or
    no sigma, shapes differ, or a sigma is not a positive number.
    """
    means = _log_likelihoods(validation, samples, sigmas).mean(dim=1).tolist()
    return sigmas[means.index(max(means))]


def log_likelihoods(points: Tensor, samples: Tensor, sigma: float) -> Tensor:
    """Return log p of each point under Gaussians of width sigma around the samples: the formula of this module.

    Memory is bounded by `TILE`, whatever the number of points and samples.

    Args:
        points: (N, ...), float as they are, or uint8 pixels, which are divided by 255.
        samples: (M, ...), on the device that is to compute.
        sigma: standard deviation of the window, in the unit of the points, above 0.

    Returns:
        (N,) float64 in nats, on the device of the samples.

    Raises:
        ValueError: there is no point or no sample, their shapes differ, or sigma is not a positive number.
    """
    return _log_likelihoods(points, samples, [sigma])[0]


def _log_likelihoods(points: Tensor, samples: Tensor, sigmas: Sequence[float]) -> Tensor:
    """Return (S, N) log-likelihoods for all sigmas; the distances, the costly part, are computed once."""
    _check(points, samples, sigmas)
    device, tiles = samples.device, []
    widths = torch.tensor(sigmas, dtype=torch.float64, device=device)
    for tile in (_rows(part.to(device)) for part in points.split(TILE)):
        total = torch.full((len(sigmas), len(tile)), -math.inf, dtype=torch.float64, device=device)
        for distances in (_squared_distances(tile, _rows(others)) for others in samples.split(TILE)):
            parts = [(distances / (-2 * sigma**2)).logsumexp(dim=1) for sigma in sigmas]
            total = torch.logaddexp(total, torch.stack(parts))
        normaliser = tile.shape[1] / 2 * torch.log(2 * math.pi * widths**2) + math.log(len(samples))
        tiles.append(total - normaliser[:, None])
    return torch.cat(tiles, dim=1)


def _rows(images: Tensor) -> Tensor:
    """Return images as float64 rows (N, d)."""
    rows = images.flatten(1).double()
    return rows if images.dtype.is_floating_point else rows / 255


def _squared_distances(points: Tensor, samples: Tensor) -> Tensor:
    """Return (P, M) squared distances as |x|^2 - 2 x.s + |s|^2; float64 leaves 1e-12 of it for pixels."""
    squares = points.square().sum(dim=1)[:, None] + samples.square().sum(dim=1)
    return torch.addmm(squares, points, samples.T, alpha=-2).clamp_(min=0)


def _check(points: Tensor, samples: Tensor, sigmas: Sequence[float]) -> None:
    if len(points) == 0 or len(samples) == 0:
        raise ValueError(f"needs at least one point and one sample, got {len(points)} and {len(samples)}")
    if points.shape[1:] != samples.shape[1:]:
        raise ValueError(f"points have shape {tuple(points.shape[1:])}, but samples {tuple(samples.shape[1:])}")
    if len(sigmas) == 0 or not all(0 < sigma < math.inf for sigma in sigmas):
        raise ValueError(f"sigma must be a positive number, got {list(sigmas)}")
