"""Densities in closed form, so that what a generator learns can be compared with the theory.

The ring and the grid are the literature's: VEEGAN (Srivastava et al. 2017, arXiv:1705.07761) and PacGAN (Lin et al.
2018, arXiv:1712.04086) train on both, and call a sample within three standard deviations of a mode high-quality, which
98.9 % of real samples in the plane are.
"""

import math
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Generator, Tensor

COVERED_SHARE = 0.25
"""A mode is covered if it has at least this share of the high-quality samples that are its due, count / modes."""


class Density(Protocol):
    """An exact density of points (D,). `half_width` bounds the part of each axis that is measured and drawn."""

    @property
    def dimensions(self) -> int:
        """Return D."""
        ...

    @property
    def half_width(self) -> float:
        """Return L; the interval is [-L, L]."""
        ...

    def log_density(self, x: Tensor) -> Tensor:
        """Return log p(x) (B,) for points (B, D), in nats."""
        ...

    def sample(self, count: int, rng: Generator) -> Tensor:
        """Return independent points (count, D), float32, on the device of `rng`."""
        ...


@dataclass(frozen=True)
class GaussianMixture:
    """p(x) = sum over k of w_k N(x; m_k, s_k^2 I), in any number of dimensions; the weights have the sum 1."""

    weights: tuple[float, ...]
    means: tuple[tuple[float, ...], ...]
    deviations: tuple[float, ...]
    half_width: float

    @property
    def dimensions(self) -> int:
        """Return D."""
        return len(self.means[0])

    def log_density(self, x: Tensor) -> Tensor:
        """Return log p(x) (B,) for points (B, D), in nats, without underflow far from all modes."""
        deviations, weights = x.new_tensor(self.deviations), x.new_tensor(self.weights)
        squares = (x.unsqueeze(1) - x.new_tensor(self.means)).square().sum(dim=2)
        normalisers = self.dimensions * (deviations.log() + math.log(2 * math.pi) / 2)
        return torch.logsumexp(weights.log() - squares / (2 * deviations.square()) - normalisers, dim=1)

    def sample(self, count: int, rng: Generator) -> Tensor:
        """Return independent points (count, D), float32, on the device of `rng`."""
        device = rng.device
        weights = torch.tensor(self.weights, device=device)
        chosen = torch.multinomial(weights, count, replacement=True, generator=rng)
        noise = torch.randn((count, self.dimensions), generator=rng, device=device)
        means, deviations = torch.tensor(self.means, device=device), torch.tensor(self.deviations, device=device)
        return means[chosen] + deviations[chosen].unsqueeze(1) * noise


@dataclass(frozen=True)
class StudentT:
    """Student's t on the line: p(x) ~ (1 + x^2 / n)^(-(n + 1) / 2) with n degrees of freedom.

    Its tails fall as |x|^-(n + 1), so only moments below n exist; those of a network of normal z are thinner.
    """

    degrees: int
    half_width: float

    @property
    def dimensions(self) -> int:
        """Return D, 1."""
        return 1

    def log_density(self, x: Tensor) -> Tensor:
        """Return log p(x) (B,) for points (B, 1), in nats."""
        n = self.degrees
        constant = math.lgamma((n + 1) / 2) - math.lgamma(n / 2) - math.log(n * math.pi) / 2
        return constant - (n + 1) / 2 * torch.log1p(x.squeeze(1).square() / n)

    def sample(self, count: int, rng: Generator) -> Tensor:
        """Return independent points (count, 1), float32: a normal divided by the root of a chi-square over n."""
        normals = torch.randn((count, 1 + self.degrees), generator=rng, device=rng.device)
        return normals[:, :1] / normals[:, 1:].square().mean(dim=1, keepdim=True).sqrt()


def ring_of_gaussians(*, modes: int, radius: float, deviation: float) -> GaussianMixture:
    """Return equal Gaussians with centres evenly on a circle, the first at (radius, 0)."""
    angles = [2 * math.pi * k / modes for k in range(modes)]
    centres = tuple((radius * math.cos(angle), radius * math.sin(angle)) for angle in angles)
    return GaussianMixture((1 / modes,) * modes, centres, (deviation,) * modes, half_width=1.4 * radius)


def grid_of_gaussians(*, side: int, spacing: float, deviation: float) -> GaussianMixture:
    """Return side x side equal Gaussians, their centres on a square grid around 0."""
    ticks = [spacing * (k - (side - 1) / 2) for k in range(side)]
    centres = tuple((x, y) for x in ticks for y in ticks)
    modes = side**2
    return GaussianMixture((1 / modes,) * modes, centres, (deviation,) * modes, half_width=side * spacing / 2)


LINES: dict[str, Density] = {
    "gaussian": GaussianMixture((1.0,), ((0.0,),), (1.0,), half_width=5.0),
    "mixture": GaussianMixture((0.3, 0.5, 0.2), ((-2.0,), (0.5,), (3.0,)), (0.5, 0.7, 0.4), half_width=6.0),
    "heavy_tail": StudentT(3, half_width=20.0),  # 0.03 % of its mass lies outside
}
"""Densities on the line."""
PLANES: dict[str, GaussianMixture] = {
    "ring": ring_of_gaussians(modes=8, radius=1.0, deviation=0.01),
    "grid": grid_of_gaussians(side=5, spacing=2.0, deviation=0.05),
}
"""Densities in the plane, with the figures of PacGAN: 8 modes of deviation 0.01, 25 modes of deviation 0.05."""


@dataclass(frozen=True)
class Coverage:
    """Modes covered, of how many, the share of high-quality samples, and what the smallest mode has of its due."""

    covered: int
    modes: int
    high_quality_share: float
    smallest_mode_share: float


def coverage(density: GaussianMixture, samples: Tensor) -> Coverage:
    """Return how many modes of equal weight the samples cover.

    A sample is of high quality within three deviations of the nearest centre. PacGAN counts a mode as covered from one
    such sample on; here it needs `COVERED_SHARE` of its due, so that one stray sample covers nothing.

    Args:
        density: with equal weights and deviations.
        samples: (N, D).

    Returns:
        Counts and shares; `smallest_mode_share` is 1 if the smallest mode has exactly its due.
    """
    distances, nearest = torch.cdist(samples, samples.new_tensor(density.means)).min(dim=1)
    good = distances <= 3 * density.deviations[0]
    modes = len(density.means)
    shares = torch.bincount(nearest[good], minlength=modes).double() * modes / len(samples)
    return Coverage(
        covered=int((shares >= COVERED_SHARE).sum()),
        modes=modes,
        high_quality_share=good.double().mean().item(),
        smallest_mode_share=shares.min().item(),
    )
