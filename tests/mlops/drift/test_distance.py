import math

import pytest
import torch
from torch import Tensor

from mlops.drift.distance import DRAWS, drift

COUNT, FEATURES = 400, 8
NONE = torch.full((COUNT,), -1)


def points(seed: int, count: int = COUNT, shift: float = 0.0) -> Tensor:
    rng = torch.Generator().manual_seed(seed)
    return torch.randn(count, FEATURES, generator=rng) + shift / math.sqrt(FEATURES)


def test_the_distance_of_a_shift_is_three_times_its_square_above_chance() -> None:
    found = drift(points(0), points(1, shift=2.0), NONE)
    chance = sum(found.by_chance) / DRAWS
    assert found.mean - chance == pytest.approx(3 * 2.0**2, rel=0.1)
    assert found.exceeds_chance


@pytest.mark.parametrize("seed", range(1, 6))
def test_new_images_of_the_same_kind_are_as_near_as_two_halves(seed: int) -> None:
    found = drift(points(0), points(seed), NONE)
    assert found.mean == pytest.approx(sum(found.by_chance) / DRAWS, rel=0.3)


def test_the_same_images_in_another_order_are_like_two_halves_and_not_at_distance_zero() -> None:
    former = points(0)
    order = torch.randperm(COUNT, generator=torch.Generator().manual_seed(1))
    found = drift(former, former[order], order)
    assert found.images == COUNT // 2
    assert found.mean == pytest.approx(sum(found.by_chance) / DRAWS, rel=0.2)


def test_a_part_that_was_added_counts_with_its_share() -> None:
    """A quarter of images at distance 4 moves the mean by 1: Frechet's part of the mean alone would be 1."""
    former = points(0, count=1200)
    new = torch.cat([former, points(1, count=400, shift=4.0)])
    found = drift(former, new, torch.cat([torch.arange(1200), torch.full((400,), -1)]))
    alone = drift(former, points(1, count=400, shift=4.0), torch.full((400,), -1))
    assert found.exceeds_chance
    assert 3 * 1.0 < found.mean < alone.mean / 3


def test_no_set_is_larger_than_half_of_the_former_ones_or_the_new_ones() -> None:
    assert drift(points(0, count=5), points(1), NONE).images == 2
    assert drift(points(0), points(1, count=3), NONE[:3]).images == 3
