import pytest
import torch
from torch import nn
from torch.nn.functional import one_hot

from gan_core.networks.layers import Maxout, Projection, beside_label, dropped
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


def test_a_projection_is_the_inner_product_with_a_linear_map_of_the_one_hot_label() -> None:
    """Its gradient in the features, which penalties differentiate again, is the row of the label."""
    projection = Projection(6, 4).double()
    features = torch.randn(5, 6, dtype=torch.float64, generator=stream(0, "f")).requires_grad_()
    labels = torch.tensor([3, 0, 1, 0, 2])
    rows = one_hot(labels, 4).double() @ projection.embed.weight
    projected = projection(features, labels)
    assert torch.allclose(projected, (rows * features).sum(dim=1), rtol=1e-12)
    (slope,) = torch.autograd.grad(projected.sum(), features, create_graph=True)
    assert torch.allclose(slope, rows, rtol=1e-12)
    (second,) = torch.autograd.grad(slope.square().sum() / 2, projection.embed.weight)
    assert torch.allclose(second, one_hot(labels, 4).double().T @ rows, rtol=1e-12)


def test_a_label_stands_beside_z_as_a_linear_map_of_its_one_hot_form() -> None:
    embed, z, labels = nn.Embedding(4, 3), torch.randn(5, 2, generator=stream(0, "z")), torch.tensor([3, 0, 1, 0, 2])
    expected = torch.cat([z, one_hot(labels, 4).float() @ embed.weight], dim=1)
    assert torch.equal(beside_label(z, embed, labels), expected)
    assert beside_label(z, None, None) is z
