import gzip
import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.special import logsumexp
from scipy.stats import multivariate_normal
from torch import Tensor
from torch.distributions import Normal

from gan_core.metrics import parzen as module
from gan_core.metrics.parzen import SAMPLES, SIGMAS, VALIDATION, ParzenScore, best_sigma, log_likelihoods, parzen
from gan_core.runtime.randomness import stream
from tests.gan_core.examples import random_pixels
from tests.project import ROOT

MNIST = ROOT.parent / "shared" / "data" / "mnist"

POINTS = torch.rand((11, 2, 3), generator=stream(1, "points"), dtype=torch.float64)
NEAR = torch.rand((7, 2, 3), generator=stream(2, "samples"), dtype=torch.float64)


def brute_force(points: Tensor, samples: Tensor, sigma: float) -> NDArray[np.float64]:
    """Return the formula, every difference of a pair written out."""
    x, s = (part.flatten(1).double().numpy() for part in (points, samples))
    squared = ((x[:, None] - s[None]) ** 2).sum(axis=2)
    exponents = -squared / (2 * sigma**2)
    normaliser = x.shape[1] / 2 * np.log(2 * np.pi * sigma**2)
    return np.asarray(logsumexp(exponents, axis=1) - np.log(len(s)) - normaliser)


def images(count: int, seed: int) -> Tensor:
    """Return dark noise, whose images lie so close to each other that a sigma within the grid wins."""
    return random_pixels(count, size=8, seed=seed) // 2


@pytest.mark.parametrize("sigma", [0.1, 0.7, 3.0])
def test_one_sample_is_the_log_density_of_a_gaussian(sigma: float) -> None:
    nats = log_likelihoods(POINTS, NEAR[:1], sigma)
    expected = Normal(NEAR[0], sigma).log_prob(POINTS).sum(dim=(1, 2))
    scipy = multivariate_normal(NEAR[0].flatten().numpy(), sigma**2).logpdf(POINTS.flatten(1).numpy())
    assert (nats.shape, nats.dtype) == ((11,), torch.float64)
    assert nats.tolist() == pytest.approx(expected.tolist(), rel=1e-12)
    assert nats.tolist() == pytest.approx(scipy.tolist(), rel=1e-12)


@pytest.mark.parametrize("sigma", [0.05, 0.3, 1.0])
def test_several_samples_are_a_mixture_of_equal_weights(sigma: float) -> None:
    nats = log_likelihoods(POINTS, NEAR, sigma)
    assert nats.tolist() == pytest.approx(brute_force(POINTS, NEAR, sigma).tolist(), rel=1e-11)
    # The weights are 1/M, so showing every sample twice changes nothing.
    assert log_likelihoods(POINTS, torch.cat([NEAR, NEAR]), sigma).tolist() == pytest.approx(nats.tolist(), rel=1e-12)


@pytest.mark.parametrize("dimensions", [1, 2])
def test_the_density_integrates_to_one(dimensions: int) -> None:
    axis = torch.linspace(-3, 4, 281, dtype=torch.float64)
    points = torch.cartesian_prod(*[axis] * dimensions).reshape(-1, dimensions)
    samples = torch.rand((5, dimensions), generator=stream(3, "samples"), dtype=torch.float64)
    cell = (7 / 280) ** dimensions
    for sigma in (0.1, 0.4):
        assert log_likelihoods(points, samples, sigma).exp().sum().item() * cell == pytest.approx(1, abs=1e-9)


@pytest.mark.parametrize("tile", [1, 3, 7, 11, 1000])
def test_tiles_do_not_change_the_result(tile: int, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = log_likelihoods(POINTS, NEAR, 0.2).tolist()
    score = parzen(samples=images(30, 1), validation=images(10, 2), test=images(20, 3))
    monkeypatch.setattr(module, "TILE", tile)
    assert log_likelihoods(POINTS, NEAR, 0.2).tolist() == pytest.approx(expected, rel=1e-12)
    tiled = parzen(samples=images(30, 1), validation=images(10, 2), test=images(20, 3))
    assert (tiled.mean, tiled.standard_error) == pytest.approx((score.mean, score.standard_error), rel=1e-12)
    assert tiled.sigma == score.sigma


def test_no_more_than_a_tile_of_distances_is_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    shapes = []

    def noting(points: Tensor, samples: Tensor) -> Tensor:
        shapes.append((len(points), len(samples)))
        return distances(points, samples)

    distances: Callable[[Tensor, Tensor], Tensor] = module._squared_distances
    monkeypatch.setattr(module, "TILE", 4)
    monkeypatch.setattr(module, "_squared_distances", noting)
    best_sigma(POINTS, NEAR)
    # Each pair once, for ten sigmas.
    assert sorted(shapes) == sorted((p, s) for p in (4, 4, 3) for s in (4, 3))


def test_the_order_of_samples_does_not_matter() -> None:
    nats = log_likelihoods(POINTS, NEAR, 0.2)
    assert log_likelihoods(POINTS, NEAR.flip(0), 0.2).tolist() == pytest.approx(nats.tolist(), rel=1e-12)
    assert log_likelihoods(POINTS.flip(0), NEAR, 0.2).flip(0).tolist() == pytest.approx(nats.tolist(), rel=1e-12)


def test_a_point_far_from_all_samples_stays_finite() -> None:
    nats = log_likelihoods(torch.full((1, 784), 1.0), torch.zeros(3, 784), 0.01)
    assert nats.item() == pytest.approx(-784 / 2e-4 - 392 * math.log(2 * math.pi * 1e-4), rel=1e-12)


def test_a_sample_is_no_distance_from_itself() -> None:
    """|x|^2 - 2 x.s + |s|^2 may round below 0, which would give more than the density's maximum."""
    points = random_pixels(50, size=28)
    assert module._squared_distances(*[points.flatten(1) / 255] * 2).min() == 0
    highest = -392 * math.log(2 * math.pi * 1e-4) - math.log(50)
    assert log_likelihoods(points, points, 0.01).tolist() == pytest.approx([highest] * 50, abs=1e-7)


def test_bytes_are_pixels_between_0_and_1() -> None:
    points, samples = images(5, 1), images(6, 2)
    expected = log_likelihoods(points.double() / 255, samples.double() / 255, 0.3)
    assert log_likelihoods(points, samples, 0.3).tolist() == pytest.approx(expected.tolist(), rel=1e-12)


@pytest.mark.parametrize(("spread", "index"), [(0.05, 0), (0.13, 1), (0.45, 6), (3.0, 9)])
def test_sigma_has_the_highest_mean_likelihood_of_the_validation_points(spread: float, index: int) -> None:
    samples = torch.zeros(4, 50, dtype=torch.float64)
    # Some lie far out, so that the mean is not the median.
    spreads = torch.logspace(-1, 0.4, 40, dtype=torch.float64)[:, None] * spread
    validation = torch.randn((40, 50), generator=stream(4, "validation"), dtype=torch.float64) * spreads
    means = [brute_force(validation, samples, sigma).mean() for sigma in SIGMAS]
    assert int(np.argmax(means)) == index
    assert best_sigma(validation, samples) == SIGMAS[index]
    assert best_sigma(validation, samples, SIGMAS[::-1]) == SIGMAS[index]
    assert best_sigma(validation, samples, [0.5, 0.6]) == (0.5 if index < 7 else 0.6)


def test_the_score_is_the_brute_force_protocol() -> None:
    samples, validation, test = images(60, 1), images(20, 2), random_pixels(30, size=8, seed=3)
    unit = [part.double() / 255 for part in (samples, validation, test)]
    sigma = SIGMAS[int(np.argmax([brute_force(unit[1], unit[0], sigma).mean() for sigma in SIGMAS]))]
    on_test = SIGMAS[int(np.argmax([brute_force(unit[2], unit[0], sigma).mean() for sigma in SIGMAS]))]
    assert sigma != on_test
    expected = brute_force(unit[2], unit[0], sigma)
    score = parzen(samples=samples, validation=validation, test=test)
    assert score.sigma == sigma
    assert score.mean == pytest.approx(expected.mean(), rel=1e-11)
    assert score.standard_error == pytest.approx(np.sqrt(expected.var() / 30), rel=1e-9)


def test_the_protocol_is_that_of_the_authors() -> None:
    assert (SAMPLES, VALIDATION, len(SIGMAS)) == (10_000, 1_000, 10)
    assert pytest.approx([10 ** (-1 + k / 9) for k in range(10)], rel=1e-12) == SIGMAS


def test_the_caller_keeps_the_images() -> None:
    parts = {"samples": images(5, 1), "validation": images(5, 2), "test": images(5, 3)}
    before = {name: part.clone() for name, part in parts.items()}
    points = POINTS.clone()
    assert isinstance(parzen(**parts), ParzenScore)
    log_likelihoods(POINTS, POINTS, 0.1)
    assert all(torch.equal(before[name], part) for name, part in parts.items())
    assert torch.equal(points, POINTS)


def test_nothing_to_measure_is_refused() -> None:
    with pytest.raises(ValueError, match=r"got 11 and 0$"):
        log_likelihoods(POINTS, NEAR[:0], 0.1)
    with pytest.raises(ValueError, match=r"got 0 and 7$"):
        best_sigma(POINTS[:0], NEAR)
    for empty in ("samples", "validation", "test"):
        parts = {name: images(0 if name == empty else 2, 1) for name in ("samples", "validation", "test")}
        with pytest.raises(ValueError, match="got"):
            parzen(**parts)


@pytest.mark.parametrize("sigma", [0.0, -0.1, math.nan, math.inf])
def test_a_sigma_that_is_no_width_is_refused(sigma: float) -> None:
    with pytest.raises(ValueError, match=r"^sigma "):
        log_likelihoods(POINTS, NEAR, sigma)
    with pytest.raises(ValueError, match=r"^sigma "):
        best_sigma(POINTS, NEAR, [0.1, sigma])


def test_no_sigma_to_choose_from_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^sigma .*\[\]$"):
        best_sigma(POINTS, NEAR, [])


def test_images_of_another_shape_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match=r"\(2, 3\).*\(3, 2\)"):
        log_likelihoods(POINTS, NEAR.transpose(1, 2), 0.1)
    # Refused before sigma is chosen, which takes seconds.
    monkeypatch.setattr(module, "best_sigma", lambda *_: pytest.fail("sigma was chosen"))
    with pytest.raises(ValueError, match=r"\(1, 9, 9\).*\(1, 8, 8\)"):
        parzen(samples=images(3, 1), validation=images(3, 2), test=random_pixels(3, size=9))


@pytest.mark.slow
@pytest.mark.skipif(not MNIST.exists(), reason="needs the shared MNIST files beside the checkout")
def test_training_images_of_mnist_as_samples() -> None:
    """What real digits score as samples; all of the protocol at once, at its own size."""

    def read(name: str) -> Tensor:
        content = gzip.decompress((MNIST / f"{name}-images-idx3-ubyte.gz").read_bytes())
        return torch.frombuffer(bytearray(content), dtype=torch.uint8, offset=16).reshape(-1, 1, 28, 28)

    train = read("train")
    score = parzen(samples=train[:SAMPLES], validation=train[50_000 : 50_000 + VALIDATION], test=read("t10k"))
    assert score.mean == pytest.approx(241.2, abs=1.0)
    assert score.standard_error == pytest.approx(2.13, abs=0.05)
    assert score.sigma == pytest.approx(0.1668, abs=1e-4)
