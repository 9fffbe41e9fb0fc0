"""Penalties in the discriminator's step."""

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import gan_core.training.steps
from gan_core.config import NetworkConfig, TrainConfig
from gan_core.losses.adversarial import OBJECTIVES
from gan_core.losses.penalties import DISTANCE
from gan_core.runtime.device import PLAIN, Arithmetic
from gan_core.training.batches import Batches
from gan_core.training.loop import train
from gan_core.training.state import TrainState, initial_state
from gan_core.training.steps import discriminator_step
from tests.gan_core.examples import DCGAN, IMAGES, MLP, TRAIN, families, fresh

SMOOTH = replace(MLP, dropout=0.0)
NONE: dict[str, Any] = {"r1_gamma": 0.0, "r2_gamma": 0.0}
PENALTIES: dict[str, dict[str, Any]] = {
    "none": NONE,
    "r1 and r2": {},
    "r1 and r2 by differences": {"penalty_gradient": "finite_difference"},
    "r2 by differences": {"penalty_gradient": "finite_difference", "r1_gamma": 0.0},
    "wgan_gp": NONE | {"wgan_gp": 2.0},
    "all": {"penalty_gradient": "finite_difference", "wgan_gp": 2.0},
}
penalties = pytest.mark.parametrize("penalty", [name for name in PENALTIES if name != "none"])


def with_penalty(name: str, **changes: Any) -> TrainConfig:
    return replace(TRAIN, **PENALTIES[name], **changes)


def flat(tensors: Iterable[Tensor | None]) -> Tensor:
    return torch.cat([tensor.flatten() for tensor in tensors if tensor is not None])


def gradient(state: TrainState) -> Tensor:
    return flat(parameter.grad for parameter in state.discriminator.parameters())


def after_one_update(config: TrainConfig, network: NetworkConfig, arithmetic: Arithmetic = PLAIN) -> Tensor:
    state = initial_state(config, network, IMAGES, arithmetic)
    discriminator_step(state, Batches(state, IMAGES).discriminator(1, 0))
    return gradient(state)


@pytest.mark.parametrize("bf16", [False, True])
@pytest.mark.parametrize("loss", OBJECTIVES)
@pytest.mark.parametrize("penalty", ["r1 and r2", "all"])
@families
def test_any_loss_goes_with_any_penalty_and_family(network: NetworkConfig, penalty: str, loss: Any, bf16: bool) -> None:
    config = with_penalty(penalty, loss=loss, steps=1, discriminator_steps=1)
    state = initial_state(config, network, IMAGES, Arithmetic(bf16, 2))
    for report in train(state, IMAGES):
        report.read()
    assert gradient(state).isfinite().all()


@penalties
def test_the_discriminator_descends_the_penalties_that_are_on(penalty: str) -> None:
    config, state = with_penalty(penalty), fresh(TRAIN, SMOOTH)
    state.config = config
    batch = Batches(state, IMAGES).discriminator(1, 0)
    assert batch.real is not None
    real, fake = (images.detach().clone() for images in (batch.real, state.generated(batch.z)))
    exact = config.penalty_gradient == "exact"

    def logits(images: Tensor) -> Tensor:
        output: Tensor = state.discriminator(images)
        return output

    def slope(images: Tensor) -> Tensor:
        x = images.clone().requires_grad_()
        return torch.autograd.grad(logits(x).sum(), x, create_graph=True)[0].flatten(1)

    expected = (logits(fake) - logits(real)).exp().log1p().mean()
    for gamma, images, noise in ((config.r1_gamma, real, batch.real_noise), (config.r2_gamma, fake, batch.fake_noise)):
        assert (noise is None) == (exact or gamma == 0)
        assert isinstance(gamma, float)
        if noise is not None:
            rate = (logits(images + 0.01 * noise) - logits(images)) / 0.01
            expected = expected + gamma * rate.square().mean() / 2
        else:
            expected = expected + gamma * slope(images).square().sum(dim=1).mean() / 2
    if config.wgan_gp:
        assert batch.mix is not None
        share = batch.mix[:, None, None, None]
        expected = expected + 2.0 * (slope(share * real + (1 - share) * fake).norm(dim=1) - 1).square().mean()
    wanted = flat(torch.autograd.grad(expected, list(state.discriminator.parameters())))

    discriminator_step(state, batch)
    assert torch.allclose(gradient(state), wanted, rtol=1e-3, atol=1e-4 * wanted.abs().max().item())


def test_both_passes_of_a_difference_have_the_same_dropout(monkeypatch: pytest.MonkeyPatch) -> None:
    """If images are not moved, the difference is zero, and nothing is added to the gradient of the loss."""
    monkeypatch.setattr(gan_core.training.steps, "DISTANCE", 0.0)
    network = replace(MLP, dropout=0.5)
    for parts in (1, 2):
        with_difference, without = (
            after_one_update(with_penalty(name), network, Arithmetic(False, parts))
            for name in ("r1 and r2 by differences", "none")
        )
        assert torch.equal(with_difference, without)
    assert DISTANCE > 0


@penalties
@pytest.mark.parametrize("parts", [2, 8])
def test_a_batch_in_parts_has_the_penalties_of_the_whole(penalty: str, parts: int) -> None:
    whole, in_parts = (
        after_one_update(with_penalty(penalty), SMOOTH, Arithmetic(False, count)) for count in (1, parts)
    )
    assert torch.allclose(in_parts, whole, rtol=1e-3, atol=1e-4 * whole.abs().max().item())


@pytest.mark.parametrize(("penalty", "passes"), [*zip(PENALTIES, (2, 2, 4, 3, 3, 5), strict=True)])
def test_only_what_is_on_is_computed_and_recorded(penalty: str, passes: int) -> None:
    state, passed = fresh(with_penalty(penalty), DCGAN), list[int]()
    state.discriminator.register_forward_hook(lambda _, inputs, logits: passed.append(len(logits)))
    discriminator_step(state, Batches(state, IMAGES).discriminator(1, 0))
    assert passed == [TRAIN.batch_size] * passes
    norms = [module for module in state.discriminator.modules() if isinstance(module, nn.BatchNorm2d)]
    assert {int(norm.num_batches_tracked) for norm in norms} == {2}  # type: ignore[arg-type]
