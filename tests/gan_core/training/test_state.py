from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from gan_core.config import NetworkConfig
from gan_core.runtime.device import PLAIN, Arithmetic
from gan_core.training.loop import train
from gan_core.training.state import TrainState, initial_state
from gan_core.training.steps import discriminator_step, generator_step
from tests.gan_core.examples import CLASSES, DCGAN, IMAGES, MLP, TRAIN, everything, families, same_bits
from tests.gan_core.examples import batches as drawn

SMOOTH = replace(MLP, dropout=0.0)  # whose masks would be drawn in another order


def gradients(network: nn.Module) -> Tensor:
    return torch.cat([parameter.grad.flatten() for parameter in network.parameters() if parameter.grad is not None])


def after_one_step(network: NetworkConfig, arithmetic: Arithmetic, loss: Any) -> tuple[list[Tensor], list[Tensor]]:
    """Return the losses and the gradients of both first updates."""
    # Adam's first step has the size of the rate whatever the gradient, so rounding must not move the discriminator far.
    config = replace(TRAIN, loss=loss, discriminator_learning_rate=1e-6)
    state = initial_state(config, network, IMAGES, arithmetic, classes=CLASSES if network.conditional else 0)
    batches = drawn(state)
    losses = [discriminator_step(state, batches.discriminator(1, 0))]
    descended = [gradients(state.discriminator)]
    losses.append(generator_step(state, batches.generator(1)))
    return losses, [*descended, gradients(state.generator)]


@pytest.mark.parametrize("parts", [2, 4, 8])
@pytest.mark.parametrize("loss", ["minimax", "non_saturating", "relativistic"])
@pytest.mark.parametrize("network", [SMOOTH, replace(SMOOTH, conditional=True)], ids=["plain", "conditional"])
def test_a_batch_in_parts_has_the_gradients_of_the_whole(network: NetworkConfig, loss: Any, parts: int) -> None:
    whole_losses, whole = after_one_step(network, PLAIN, loss)
    part_losses, in_parts = after_one_step(network, Arithmetic(False, parts), loss)
    for expected, actual in zip([*whole_losses, *whole], [*part_losses, *in_parts], strict=True):
        assert torch.allclose(actual, expected, rtol=1e-4, atol=1e-5 * expected.abs().max().item())


@pytest.mark.parametrize("network", [SMOOTH, DCGAN], ids=["mlp", "dcgan"])
def test_bfloat16_moves_the_gradients_by_its_rounding_and_no_more(network: NetworkConfig) -> None:
    """One rounding is 2^-9 relative; near a kink of a unit it takes the other side, so few images move further."""
    _, plain = after_one_step(network, PLAIN, "relativistic")
    _, rounded = after_one_step(network, Arithmetic(True, 1), "relativistic")
    for expected, actual in zip(plain, rounded, strict=True):
        assert not torch.equal(actual, expected)
        assert torch.nn.functional.cosine_similarity(actual, expected, dim=0) > 0.9
        assert actual.norm().item() == pytest.approx(expected.norm().item(), rel=0.1)


@families
def test_weights_moments_averages_and_losses_stay_in_float32(network: NetworkConfig) -> None:
    state = initial_state(TRAIN, network, IMAGES, Arithmetic(True, 1))
    *_, last = train(state, IMAGES)
    kinds = {name: tensor.dtype for name, tensor in everything(state).items() if tensor.is_floating_point()}
    assert set(kinds.values()) == {torch.float32}
    assert last.d_loss.dtype == last.g_loss.dtype == torch.float32


def test_bfloat16_is_used_inside_the_networks_alone() -> None:
    state = initial_state(TRAIN, DCGAN, IMAGES, Arithmetic(True, 1))
    seen: dict[str, torch.dtype] = {}
    convolution = next(module for module in state.discriminator.modules() if isinstance(module, nn.Conv2d))
    convolution.register_forward_hook(lambda _, __, output: seen.update(inside=output.dtype))
    with state.autocast():
        seen |= {
            "images": state.generated(torch.zeros(8, DCGAN.z_dim)).dtype,
            "logits": state.logits(IMAGES / 255.0).dtype,
        }
    assert seen == {"inside": torch.bfloat16, "images": torch.float32, "logits": torch.float32}


@families
def test_one_part_in_float32_has_the_bits_of_plain_arithmetic(network: NetworkConfig) -> None:
    def run(arithmetic: Arithmetic = PLAIN) -> TrainState:
        state = initial_state(TRAIN, network, IMAGES, arithmetic)
        for _ in train(state, IMAGES):
            pass
        return state

    assert same_bits(everything(run()), everything(run(Arithmetic(False, 1))))
