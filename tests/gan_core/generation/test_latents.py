import math
from dataclasses import replace
from itertools import pairwise
from typing import Literal

import pytest
import torch
from scipy.stats import kstest, norm, truncnorm, uniform

from gan_core.config import NetworkConfig
from gan_core.generation.generate import BATCH_SIZE, generate
from gan_core.generation.latents import between, closed_walk, draw_z, truncated, z_bank
from gan_core.networks.build import build_generator
from gan_core.runtime.pixels import to_pixels
from gan_core.runtime.randomness import stream
from tests.gan_core.examples import (
    DCGAN,
    MLP,
    NETWORKS,
    SIZE,
    a_generator,
    same_bits,
    snapshot,
)

WIDE = replace(MLP, z_dim=100)


families = pytest.mark.parametrize("network", NETWORKS, ids=[network.family for network in NETWORKS])


def test_uniform_latents_fill_the_cube() -> None:
    z = draw_z(replace(WIDE, z_distribution="uniform"), 2000, stream(0, "z"))
    assert z.shape == (2000, 100)
    assert z.min().item() == pytest.approx(-1, abs=1e-3)
    assert z.max().item() == pytest.approx(1, abs=1e-3)
    assert z.abs().max() <= 1
    assert z.mean().item() == pytest.approx(0, abs=0.01)
    assert z.var().item() == pytest.approx(1 / 3, abs=0.005)


def test_normal_latents_have_the_moments_of_the_standard_normal() -> None:
    z = draw_z(replace(WIDE, z_distribution="normal"), 2000, stream(0, "z"))
    moments = [z.pow(power).mean().item() for power in (1, 2, 3, 4)]
    assert z.shape == (2000, 100)
    assert moments == pytest.approx([0, 1, 0, 3], abs=0.06)


@pytest.mark.parametrize("network", [MLP, DCGAN], ids=["normal", "uniform"])
def test_a_larger_bank_begins_with_the_smaller_one(network: NetworkConfig) -> None:
    bank = z_bank(network, seed=3, count=70)
    assert bank.shape == (70, network.z_dim)
    for count in (1, 2, 64, 69):
        assert torch.equal(z_bank(network, seed=3, count=count), bank[:count])
    assert len(bank.unique(dim=0)) == 70
    other = z_bank(network, seed=4, count=70)
    assert len(torch.cat([bank, other]).unique(dim=0)) == 140


@families
def test_an_image_depends_on_its_own_latent_alone(network: NetworkConfig) -> None:
    generator = a_generator(network)
    z = z_bank(network, seed=0, count=2 * BATCH_SIZE + 3)
    images = generate(generator, z)
    assert images.shape == (len(z), 1, SIZE, SIZE)
    assert (images.dtype, images.device.type) == (torch.uint8, "cpu")
    for count in (1, BATCH_SIZE - 1, BATCH_SIZE, BATCH_SIZE + 1):
        assert torch.equal(generate(generator, z[:count]), images[:count])
    order = torch.randperm(len(z), generator=stream(0, "order"))
    # Some processors' matrix products round the last rows of a batch differently: a pixel in thousands is at an edge.
    moved = (generate(generator, z[order]).int() - images[order].int()).abs()
    assert moved.max() <= 1
    assert moved.float().mean() < 1e-3


@pytest.mark.parametrize("count", [1, BATCH_SIZE - 1, BATCH_SIZE, BATCH_SIZE + 1, 3 * BATCH_SIZE])
def test_matrix_products_have_the_same_number_of_rows_however_many_are_asked_for(count: int) -> None:
    generator = build_generator(MLP, size=8, channels=1, seed=0)
    rows: list[int] = []
    generator.register_forward_pre_hook(lambda _, inputs: rows.append(len(inputs[0])))
    generate(generator, z_bank(MLP, seed=0, count=count))
    assert rows == [BATCH_SIZE] * math.ceil(count / BATCH_SIZE)


@families
def test_images_are_those_of_evaluation_mode(network: NetworkConfig) -> None:
    generator = a_generator(network)
    z = z_bank(network, seed=0, count=5)
    images = generate(generator.train(), z)
    with torch.no_grad():
        direct = to_pixels(generator.eval()(z))
    assert (images.int() - direct.int()).abs().max() <= 1  # another number of rows may round differently
    assert images.float().std() > 1


@pytest.mark.parametrize("training", [True, False])
def test_generating_changes_nothing_in_the_generator(training: bool) -> None:
    generator = a_generator(DCGAN).train(training)
    before = snapshot(generator)
    generate(generator, z_bank(DCGAN, seed=0, count=3))
    assert same_bits(snapshot(generator), before)
    assert all(module.training == training for module in generator.modules())


@pytest.mark.parametrize("network", [MLP, DCGAN], ids=["normal", "uniform"])
def test_a_bank_can_be_read_in_parts(network: NetworkConfig) -> None:
    bank = z_bank(network, seed=3, count=9)
    parts = [z_bank(network, seed=3, first=first, count=3) for first in (0, 3, 6)]
    assert torch.equal(torch.cat(parts), bank)


@pytest.mark.parametrize("bound", [0.02, 0.5, 1.0, 2.0])
def test_truncated_latents_have_the_truncated_normal_distribution(bound: float) -> None:
    normal = z_bank(WIDE, seed=0, count=2000)
    z = z_bank(WIDE, seed=0, count=2000, truncation=bound).double()
    expected = truncnorm(-bound, bound)
    # A component that lies on a bound is rounded to the next float32.
    assert z.abs().max().item() == pytest.approx(bound, rel=1e-3)
    assert z.abs().max().item() <= bound * (1 + 1e-7)
    assert z.mean().item() == pytest.approx(0, abs=0.01 * bound)
    assert z.var().item() == pytest.approx(expected.var(), rel=0.01)
    # 1.63 / sqrt(n) is exceeded once in a hundred samples.
    assert kstest(z.flatten().numpy(), expected.cdf).statistic < 1.63 / math.sqrt(z.numel())
    assert torch.equal(z.sign(), normal.double().sign())
    assert torch.equal(z.flatten()[normal.flatten().argsort()], z.flatten().sort().values)


@pytest.mark.parametrize("bound", [0.7, 3.0, 20.0])
def test_tails_are_as_exact_as_the_rest(bound: float) -> None:
    """1 - Phi(8) is below the resolution of float64 near 1; the lower tail, whose Phi is near 0, is the reference."""
    z = torch.linspace(-9, 9, 73, dtype=torch.float64)
    lower = z[z <= 0].numpy()
    quantiles = norm.cdf(-bound) + norm.cdf(lower) * (norm.cdf(bound) - norm.cdf(-bound))
    expected = norm.ppf(quantiles)
    moved = truncated(WIDE, z, bound)
    assert moved[z <= 0].numpy() == pytest.approx(expected, rel=1e-9, abs=1e-15)
    assert moved[z >= 0].flip(0).numpy() == pytest.approx(-expected, rel=1e-9, abs=1e-15)


@pytest.mark.parametrize("bound", [12.0, math.inf])
def test_a_far_bound_leaves_latents_as_they_are(bound: float) -> None:
    z = z_bank(WIDE, seed=1, count=200)
    assert torch.allclose(truncated(WIDE, z, bound), z, rtol=1e-6, atol=1e-7)


def test_truncated_latents_gather_at_the_mode_as_the_bound_falls() -> None:
    z = z_bank(WIDE, seed=1, count=20)
    sizes = [truncated(WIDE, z, bound).abs() for bound in (1e-9, 0.1, 1.0, 3.0, 12.0)]
    assert all(torch.all(small <= large) for small, large in pairwise(sizes))


@pytest.mark.parametrize("bound", [0.0, -1.0, math.nan])
def test_a_bound_is_above_zero(bound: float) -> None:
    with pytest.raises(ValueError, match="truncation must be above 0"):
        z_bank(WIDE, seed=0, count=1, truncation=bound)


def test_truncated_uniform_latents_are_uniform_on_a_smaller_cube() -> None:
    config = replace(WIDE, z_distribution="uniform")
    z, small, whole = (z_bank(config, seed=0, count=500, truncation=bound) for bound in (None, 0.25, 1.5))
    assert torch.equal(whole, z)
    assert torch.equal(small.sign(), z.sign())
    assert kstest(small.flatten().numpy(), uniform(-0.25, 0.5).cdf).statistic < 1.63 / math.sqrt(small.numel())


@pytest.mark.parametrize("distribution", ["normal", "uniform"])
def test_what_lies_between_two_latents_begins_and_ends_at_them(distribution: Literal["normal", "uniform"]) -> None:
    config = replace(WIDE, z_distribution=distribution)
    start, end = z_bank(config, seed=0, count=2)
    way = between(config, start, end, 9)
    assert way.shape == (9, 100)
    assert torch.allclose(way[0], start, atol=1e-5)
    assert torch.allclose(way[-1], end, atol=1e-5)
    steps = (way[1:] - way[:-1]).norm(dim=1)
    assert steps.max() < 1.2 * steps.min()
    if distribution == "uniform":
        assert torch.allclose(way[4], (start + end) / 2, atol=1e-6)
    else:  # two normal latents are about orthogonal, so half of the straight way would be 0.7 times as long
        assert way[4].norm() == pytest.approx((start.norm() + end.norm()).item() / 2, rel=0.1)


@pytest.mark.parametrize("end", [[-0.8], [1.6]])
def test_latents_between_those_of_one_dimension_stay_between_them(end: list[float]) -> None:
    way = between(replace(MLP, z_dim=1), torch.tensor([0.5]), torch.tensor(end), 5)
    assert torch.allclose(way, torch.lerp(torch.tensor([0.5]), torch.tensor(end), torch.linspace(0, 1, 5)[:, None]))


def test_between_a_latent_and_itself_is_that_latent() -> None:
    z = z_bank(WIDE, seed=0, count=1)[0]
    assert torch.allclose(between(WIDE, z, z, 5), z.expand(5, -1))


@pytest.mark.parametrize("network", [MLP, DCGAN], ids=["normal", "uniform"])
def test_a_closed_walk_passes_every_anchor_and_ends_a_step_before_the_first(network: NetworkConfig) -> None:
    anchors = z_bank(network, seed=0, count=4)
    way = closed_walk(network, anchors, 5)
    assert way.shape == (20, network.z_dim)
    assert torch.allclose(way[::5], anchors, atol=1e-5)
    steps = (way - way.roll(-1, 0)).norm(dim=1)
    assert steps.max() < 0.5 * (anchors - anchors.roll(-1, 0)).norm(dim=1).min()
