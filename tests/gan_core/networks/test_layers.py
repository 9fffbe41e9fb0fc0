import pytest
import torch

from gan_core.networks.layers import Maxout, dropped
from gan_core.runtime.randomness import stream


def test_maxout_is_the_maximum_of_linear_maps() -> None:
    layer = Maxout(4, 5, 3)
    x = torch.randn(7, 4, generator=stream(0, "x"))
    maps = [x @ layer.linear.weight[piece::3].T + layer.linear.bias[piece::3] for piece in range(3)]
    assert torch.allclose(layer(x), torch.stack(maps).max(dim=0).values, atol=1e-6)


def test_dropping_zeroes_the_share_and_keeps_the_mean() -> None:
    kept = dropped(torch.full((200_000,), 3.0), 0.3, stream(0, "mask"))
    assert (kept == 0).float().mean().item() == pytest.approx(0.3, abs=0.005)
    assert kept.mean().item() == pytest.approx(3, abs=0.03)
    assert kept.unique().tolist() == pytest.approx([0, 3 / 0.7], rel=1e-6)
