from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from gan_core.config import NetworkConfig
from gan_core.generation.latent_space import ANCHORS, COLUMNS, ROWS, STEPS, WALKS, interpolations, truncations, walk
from tests.gan_core.examples import NETWORKS, a_generator

Images = Callable[[nn.Module, NetworkConfig, int], Tensor]
families = pytest.mark.parametrize("network", NETWORKS, ids=[network.family for network in NETWORKS])


@families
@pytest.mark.parametrize("images", [interpolations, truncations])
def test_each_row_is_a_way_of_its_own(images: Images, network: NetworkConfig) -> None:
    rows = _by_row(images(a_generator(network), network, 0))
    neighbours = (rows[:, 1:] - rows[:, :-1]).abs().mean()
    assert neighbours < (rows[:, -1] - rows[:, 0]).abs().mean() / 2
    assert (rows - rows.roll(1, 0))[:, -1].abs().mean(dim=(1, 2, 3)).min() > neighbours


@families
def test_images_near_the_mean_are_alike(network: NetworkConfig) -> None:
    rows = _by_row(truncations(a_generator(network), network, 0))
    assert rows[:, 0].var(dim=0).mean() < 0.2 * rows[:, -1].var(dim=0).mean()


@families
def test_a_walk_comes_back_to_where_it_began(network: NetworkConfig) -> None:
    frames = walk(a_generator(network), network, 0).float()
    assert frames.shape[:2] == (ANCHORS * STEPS, WALKS)
    moved = (frames - frames.roll(-1, 0)).abs().mean(dim=(1, 2, 3, 4))
    assert moved[-1] < 3 * moved.median()
    assert (frames[0] - frames[len(frames) // 2]).abs().mean() > 3 * moved.median()


def _by_row(images: Tensor) -> Tensor:
    assert images.dtype == torch.uint8
    return images.float().reshape(ROWS, COLUMNS, *images.shape[1:])
