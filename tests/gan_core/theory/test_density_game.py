"""What is measured on the line, checked on players whose densities are known: G(z) = m + s z and D = D*."""

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from gan_core.config import MlpConfig
from gan_core.theory.densities import LINES, GaussianMixture
from gan_core.theory.density_game import Snapshot, gradients_as_confidence_grows, snapshot
from gan_core.theory.point_networks import build_players
from tests.gan_core.examples import TRAIN

NETWORK = MlpConfig("mlp", 1, "normal", 16, 16, False, 1, 0.0)
DATA = GaussianMixture((1.0,), ((0.0,),), (1.0,), half_width=8.0)


class Affine(nn.Module):
    """G(z) = mean + deviation z, so p_g is a Gaussian."""

    def __init__(self, mean: float, deviation: float) -> None:
        super().__init__()
        self.mean, self.deviation = mean, deviation

    def forward(self, z: Tensor) -> Tensor:
        return self.mean + self.deviation * z


class Best(nn.Module):
    """The logits of D* of the data against a Gaussian, moved by a constant."""

    def __init__(self, mean: float, deviation: float, offset: float = 0.0) -> None:
        super().__init__()
        self.fake = GaussianMixture((1.0,), ((mean,),), (deviation,), half_width=8.0)
        self.offset = offset

    def forward(self, x: Tensor, rng: Any = None) -> Tensor:
        return DATA.log_density(x) - self.fake.log_density(x) + self.offset


def measured(mean: float, deviation: float, *, offset: float = 0.0) -> Snapshot:
    players = Best(mean, deviation, offset), Affine(mean, deviation)
    return snapshot(DATA, *players, NETWORK, cells=400, count=400_000, seed=0)


def test_the_best_discriminator_meets_the_bound() -> None:
    result = measured(1.0, 0.7)
    x = torch.linspace(-12, 12, 100_001, dtype=torch.float64)
    p = DATA.log_density(x.unsqueeze(1)).exp()
    q = torch.exp(-(((x - 1.0) / 0.7) ** 2) / 2) / (0.7 * math.sqrt(2 * math.pi))
    m = (p + q) / 2
    jsd = ((torch.xlogy(p, p / m) + torch.xlogy(q, q / m)).sum() * 24 / 100_000 / 2).item()
    assert result.jsd == pytest.approx(jsd, abs=1e-3)
    assert result.bound == pytest.approx(-math.log(4) + 2 * result.jsd, abs=1e-12)
    assert result.value == pytest.approx(result.bound, abs=4 * result.value_standard_error + 1e-3)
    assert 1e-4 < result.value_standard_error < 3e-3
    assert 0 < result.d_error < 0.01


def test_equal_densities_have_no_divergence_but_that_of_chance() -> None:
    """The documented expectation: cells / (8 count), with the few cells that hold nothing left out."""
    result = measured(0.0, 1.0)
    assert result.jsd == pytest.approx(400 / (8 * 400_000), rel=0.6)
    assert result.value == pytest.approx(-math.log(4), abs=1e-6)


def test_a_wrong_discriminator_errs_by_what_it_is_wrong() -> None:
    result = measured(0.0, 1.0, offset=1.0)
    assert result.d_error == pytest.approx(1 / (1 + math.exp(-1)) - 0.5, abs=0.003)
    assert result.value < result.bound - 0.05


def test_what_lies_outside_counts_for_the_divergence() -> None:
    everything_outside = measured(100.0, 0.1)
    assert everything_outside.jsd == pytest.approx(math.log(2), abs=1e-4)


def test_saturating_and_non_saturating_gradients_are_d_and_1_minus_d() -> None:
    config = replace(TRAIN, seed=0, batch_size=256, discriminator_learning_rate=2e-3, beta1=0.0, beta2=0.99)
    readings = list(gradients_as_confidence_grows(config, NETWORK, LINES["gaussian"], shift=6.0, steps=60, every=20))
    assert [reading.step for reading in readings] == [0, 20, 40, 60]
    assert readings[-1].fake_prob < 0.1 < readings[0].fake_prob
    for reading in readings:
        assert reading.by_logit["minimax"] == pytest.approx(reading.fake_prob, rel=1e-4)
        assert reading.by_logit["non_saturating"] == pytest.approx(1 - reading.fake_prob, rel=1e-4)
    assert readings[-1].by_weights["minimax"] < readings[-1].by_weights["non_saturating"] / 5


def test_players_take_points_and_are_drawn_from_their_seed() -> None:
    discriminator, generator = build_players(NETWORK, dimensions=2, octaves=3, seed=1)
    again, _ = build_players(NETWORK, dimensions=2, octaves=3, seed=1)
    other, _ = build_players(NETWORK, dimensions=2, octaves=3, seed=2)
    points = generator(torch.randn(5, 1))
    assert points.shape == (5, 2)
    assert discriminator(points).shape == (5,)
    assert discriminator(points).equal(again(points))
    assert not discriminator(points).equal(other(points))


def test_a_discriminator_with_octaves_sees_what_is_finer_than_its_weights() -> None:
    """With sin(2^k x), k = 0, 1, 2 a shift by 2 pi changes only what reads x itself."""
    discriminator, _ = build_players(NETWORK, dimensions=1, octaves=3, seed=1)
    with torch.no_grad():
        next(discriminator.parameters())[:, 0] = 0
    x = torch.linspace(-1, 1, 9).unsqueeze(1)
    assert discriminator(x).allclose(discriminator(x + 2 * math.pi), atol=1e-4)
    assert not discriminator(x).allclose(discriminator(x + math.pi), atol=1e-2)
