"""Readings of generated pictures beside real ones that no score shows: repetition, spectral artefacts, leaks."""

import torch
from torch import Tensor

AT_ONCE = 10
"""Images whose spectra are computed at once: at 256 pixels in colour 80 MB."""


def spacing(generated: Tensor, real: Tensor) -> float:
    """Return how far an image is from its nearest other one, median over generated images relative to real ones.

    Both are features (N, F) of as many images. A generator that makes a dozen good images over and over has 0, whatever
    the variance of all its images is; other real images have about 1.
    """
    if len(generated) != len(real):
        raise ValueError(f"the distances of {len(generated)} and {len(real)} images are not comparable")
    return (_nearest(generated) / _nearest(real).clamp(min=torch.finfo(torch.float64).tiny)).item()


def _power(images: Tensor) -> Tensor:
    """Return the mean power spectrum (H, H), float64."""
    values = images.double()
    power: Tensor = torch.fft.fft2(values - values.mean(dim=(2, 3), keepdim=True)).abs().square().mean(dim=(0, 1))
    return power


def _nearest(features: Tensor) -> Tensor:
    distances = torch.cdist(features.double(), features.double(), compute_mode="donot_use_mm_for_euclid_dist")
    return distances.fill_diagonal_(torch.inf).amin(dim=1).median()


def spectral_distance(generated: Tensor, real: Tensor) -> float:
    """Return the total variation in [0, 1] between the mean power spectra of two sets of images (N, C, H, H), uint8.

    Power is that of images less their own mean, summed over bands of equal max(|fx|, |fy|) and normalised. Transposed
    convolutions leave checkerboards, whose power is at the highest frequencies, where real images have least (Durall et
    al. 2020, arXiv:2003.01826).
    """
    return ((_bands(generated) - _bands(real)).abs().sum() / 2).item()


def _bands(images: Tensor) -> Tensor:
    """Return the share of power in each band of frequency (H // 2 + 1,), float64."""
    power = torch.stack([_power(part) * len(part) for part in images.split(AT_ONCE)]).sum(dim=0) / len(images)
    side = power.shape[-1]
    frequency = (torch.fft.fftfreq(side, dtype=torch.float64) * side).abs().round().long()
    band = torch.maximum(frequency[:, None], frequency[None])
    sums = torch.zeros(side // 2 + 1, dtype=torch.float64).index_add(0, band.flatten(), power.flatten())
    return sums / sums.sum().clamp(min=torch.finfo(torch.float64).tiny)


def leaked_shares(generated: Tensor, real: Tensor, transformed: dict[str, Tensor]) -> dict[str, float]:
    """Return the share of generated images that look as each transform of an augmentation leaves real ones.

    The shares s are those of the mixture of real and of transformed real images whose mean features are nearest to
    those of the generated ones: min over s of |E f(G(z)) - E f(x) - sum_t s_t (E f(t(x)) - E f(x))|, which has the
    minimum of least squares. Without a leak they are about 0, also negative; if every image leaks one transform, its
    share is 1. All transforms are fitted together, as what one leaves resembles a little what another does.

    Args:
        generated: features (N, F).
        real: features (M, F) of real images x.
        transformed: features (M, F) of each transform t of the same images.

    Returns:
        The shares, by the names of the transforms.
    """
    if not transformed:
        return {}
    origin = real.double().mean(dim=0)
    steps = torch.stack([features.double().mean(dim=0) - origin for features in transformed.values()], dim=1)
    shares = torch.linalg.lstsq(steps, (generated.double().mean(dim=0) - origin)[:, None]).solution[:, 0]
    return dict(zip(transformed, shares.tolist(), strict=True))
