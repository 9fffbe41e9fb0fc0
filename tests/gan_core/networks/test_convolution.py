from typing import Any

import pytest
import torch
from torch import Tensor, nn

from gan_core.networks.convolution import Convolution
from gan_core.runtime.randomness import stream

KINDS: list[dict[str, Any]] = [
    {"kernel_size": 1},
    {"kernel_size": 3, "padding": 1, "groups": 2},
    {"kernel_size": 4, "stride": 2, "padding": 1},
    {"kernel_size": 4, "groups": 4, "bias": False},
]


def made(kind: dict[str, Any]) -> tuple[Convolution, Tensor]:
    layer = Convolution(4, 4, **kind).double()
    for parameter in layer.parameters():
        nn.init.normal_(parameter, generator=stream(0, "weights"))
    images = torch.randn(2, 4, 4, 4, generator=stream(0, "images"), dtype=torch.float64)
    return layer, images.requires_grad_()


@pytest.mark.parametrize("kind", KINDS)
def test_a_penalty_has_the_gradients_that_torch_derives(kind: dict[str, Any]) -> None:
    """Through two layers and a kink-free unit, so that a second derivative passes a first one."""
    results = []
    for forward in (Convolution.forward, nn.Conv2d.forward):
        layer, images = made(kind)
        logits = forward(layer, images).tanh().flatten(1).sum(dim=1) ** 2
        (gradient,) = torch.autograd.grad(logits.sum(), images, create_graph=True)
        penalty = (gradient.square().sum() + logits.sum()) / 2
        results.append([logits, gradient, *torch.autograd.grad(penalty, [images, *layer.parameters()])])
    for ours, theirs in zip(*results, strict=True):
        assert torch.allclose(ours, theirs, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_of_both_orders_are_those_of_finite_differences(kind: dict[str, Any]) -> None:
    layer, images = made(kind)

    def convolved(x: Tensor, weight: Tensor) -> Tensor:
        return layer.convolved(x, weight)

    inputs = (images[:1, :, :, :].detach().requires_grad_(), layer.weight)
    assert torch.autograd.gradcheck(convolved, inputs, fast_mode=True)
    assert torch.autograd.gradgradcheck(convolved, inputs, fast_mode=True)


def test_under_autocast_outputs_are_bfloat16_and_gradients_of_weights_float32() -> None:
    layer, images = made(KINDS[0])
    layer.float()
    with torch.autocast("cpu", torch.bfloat16):
        result = layer(images.float())
    assert result.dtype == torch.bfloat16
    result.float().sum().backward()
    assert {parameter.grad.dtype for parameter in layer.parameters() if parameter.grad is not None} == {torch.float32}
    assert all(parameter.grad is not None for parameter in layer.parameters())
