import math
from typing import Any

import numpy as np
import pytest
import scipy.stats
import torch
from torch import Tensor

from gan_core.runtime.randomness import stream
from gan_core.theory.densities import COVERED_SHARE, LINES, PLANES, Density, GaussianMixture, StudentT, coverage

LITTLE = GaussianMixture((0.25, 0.75), ((-1.0, 0.0), (2.0, 1.0)), (0.5, 1.5), half_width=8.0)


def distribution_function(name: str, x: Any) -> Any:
    """Return P(X <= x), from scipy."""
    if name == "heavy_tail":
        return scipy.stats.t.cdf(x, 3)
    density = LINES[name]
    assert isinstance(density, GaussianMixture)
    parts = zip(density.weights, density.means, density.deviations, strict=True)
    return sum(weight * scipy.stats.norm.cdf(x, mean[0], sd) for weight, mean, sd in parts)


def midpoints(edge: float, cells: int) -> tuple[Tensor, float]:
    cell = 2 * edge / cells
    return (torch.arange(cells, dtype=torch.float64) + 0.5) * cell - edge, cell


@pytest.mark.parametrize("name", LINES)
def test_a_line_has_the_mass_that_its_distribution_function_says(name: str) -> None:
    edge = LINES[name].half_width
    x, cell = midpoints(edge, 20000)
    mass = LINES[name].log_density(x.unsqueeze(1)).exp().sum().item() * cell
    low, high = distribution_function(name, np.array([-edge, edge]))
    assert mass == pytest.approx(high - low, abs=1e-7)


@pytest.mark.parametrize("density", [LITTLE, *PLANES.values()])
def test_a_plane_has_mass_one(density: GaussianMixture) -> None:
    x, cell = midpoints(density.half_width, 1200)
    points = torch.cartesian_prod(x, x)
    mass = sum(density.log_density(chunk).exp().sum().item() for chunk in points.split(100_000)) * cell**2
    assert mass == pytest.approx(1, abs=2e-3)


@pytest.mark.parametrize("name", LINES)
def test_samples_of_a_line_follow_its_distribution_function(name: str) -> None:
    points = LINES[name].sample(100_000, stream(1, "test")).squeeze(1).numpy()
    test = scipy.stats.kstest(points, lambda x: distribution_function(name, x))
    assert 0.001 < test.pvalue < 0.999


def test_samples_of_a_mixture_have_its_moments() -> None:
    points = LITTLE.sample(400_000, stream(1, "test")).double()
    assert points.mean(dim=0).tolist() == pytest.approx([1.25, 0.75], abs=0.01)
    variances = [0.25 * 0.25 + 0.75 * 2.25 + 0.1875 * gap**2 for gap in (3, 1)]
    assert points.var(dim=0).tolist() == pytest.approx(variances, abs=0.03)


@pytest.mark.parametrize("density", [LITTLE, *LINES.values(), *PLANES.values()])
def test_the_mean_log_density_of_samples_is_minus_the_entropy(density: Density) -> None:
    """Samples and density belong together, also in the plane and where modes overlap."""
    x, cell = midpoints(density.half_width, 1600 if density.dimensions == 2 else 20000)
    points = torch.cartesian_prod(x, x) if density.dimensions == 2 else x.unsqueeze(1)
    logs = torch.cat([density.log_density(chunk) for chunk in points.split(100_000)])
    entropy = -(logs.exp() * logs).sum().item() * cell**density.dimensions
    sampled = density.log_density(density.sample(200_000, stream(1, "test")).double())
    assert -sampled.mean().item() == pytest.approx(entropy, abs=0.02)


def test_a_density_far_from_all_modes_does_not_underflow() -> None:
    (log_density,) = PLANES["ring"].log_density(torch.tensor([[100.0, 0.0]], dtype=torch.float64)).tolist()
    nearest = -(99.0**2) / (2 * 0.01**2) - 2 * (math.log(0.01) + math.log(2 * math.pi) / 2) - math.log(8)
    assert log_density == pytest.approx(nearest, rel=1e-6)


def test_students_density_is_scipys() -> None:
    x = torch.linspace(-30, 30, 101, dtype=torch.float64)
    expected = scipy.stats.t.logpdf(x.numpy(), 5)
    assert StudentT(5, half_width=1.0).log_density(x.unsqueeze(1)).numpy() == pytest.approx(expected, abs=1e-10)


def test_ring_and_grid_are_the_literatures() -> None:
    ring, grid = torch.tensor(PLANES["ring"].means), torch.tensor(PLANES["grid"].means)
    assert ring.norm(dim=1).tolist() == pytest.approx([1.0] * 8)
    assert torch.cdist(ring, ring).fill_diagonal_(9).amin(dim=1).tolist() == pytest.approx(
        [2 * math.sin(math.pi / 8)] * 8
    )
    assert sorted(map(tuple, grid.tolist())) == [(x, y) for x in range(-4, 5, 2) for y in range(-4, 5, 2)]
    assert set(PLANES["ring"].deviations) == {0.01}
    assert set(PLANES["grid"].deviations) == {0.05}


@pytest.mark.parametrize("name", PLANES)
def test_nearly_all_real_samples_are_of_high_quality(name: str) -> None:
    modes = coverage(PLANES[name], PLANES[name].sample(100_000, stream(1, "test")))
    assert modes.high_quality_share == pytest.approx(1 - math.exp(-4.5), abs=0.002)
    assert modes.covered == modes.modes == len(PLANES[name].means)
    assert 0.9 < modes.smallest_mode_share < 0.999


def test_high_quality_ends_at_three_deviations() -> None:
    centre = torch.tensor(PLANES["grid"].means[7])
    samples = torch.stack([centre + torch.tensor([0.0, 0.149]), centre - torch.tensor([0.151, 0.0])])
    assert coverage(PLANES["grid"], samples).high_quality_share == 0.5


def test_a_mode_is_covered_from_a_share_of_its_due() -> None:
    """Of 800 samples 100 are due to each mode of the ring."""
    enough = int(100 * COVERED_SHARE)
    counts = [enough, enough - 1, 0, 0, 0, 0, 0, 800 - 2 * enough + 1]
    samples = torch.tensor(PLANES["ring"].means).repeat_interleave(torch.tensor(counts), dim=0)
    modes = coverage(PLANES["ring"], samples)
    assert (modes.covered, modes.modes, modes.smallest_mode_share) == (2, 8, 0)
