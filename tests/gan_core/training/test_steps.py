import math
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import gan_core.training.batches
import gan_core.training.steps
from gan_core.augmentation.augment import augmented
from gan_core.config import AugmentationConfig, NetworkConfig, TrainConfig
from gan_core.losses.adversarial import OBJECTIVES
from gan_core.losses.penalties import DISTANCE, gradient_penalty
from gan_core.runtime.device import PLAIN, Arithmetic
from gan_core.runtime.pixels import to_unit_range
from gan_core.runtime.randomness import stream
from gan_core.runtime.schedules import largest
from gan_core.training.batches import Batches
from gan_core.training.instruments import COUNT, Instruments
from gan_core.training.loop import train
from gan_core.training.state import TrainState, initial_state
from gan_core.training.steps import discriminator_step, generator_step, train_step
from tests.gan_core.examples import (
    ADAPTIVE,
    DCGAN,
    IMAGES,
    MLP,
    POLICY,
    TRAIN,
    everything,
    families,
    fresh,
    random_pixels,
    same_bits,
    trained,
)

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


sharing = pytest.mark.parametrize("generator_z", ["fresh", "shared"])
losses = pytest.mark.parametrize("loss", ["minimax", "non_saturating", "relativistic"])


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


@families
def test_both_passes_of_a_difference_are_of_the_same_function(
    network: NetworkConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If images are not moved, the difference is zero, and nothing is added to the gradient of the loss."""
    monkeypatch.setattr(gan_core.training.steps, "DISTANCE", 0.0)
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


def changed(before: dict[str, Tensor], after: dict[str, Tensor]) -> set[str]:
    return {name for name in before if not torch.equal(before[name], after[name])}


@losses
@families
def test_the_discriminators_step_leaves_every_bit_of_the_generator(network: NetworkConfig, loss: Any) -> None:
    config = replace(TRAIN, loss=loss)
    state = trained(replace(config, steps=2), network, IMAGES)
    before = everything(state)
    discriminator_step(state, Batches(state, IMAGES).discriminator(3, 0))
    moved = changed(before, everything(state))
    assert {name.split(".")[0] for name in moved} == {"d", "d moments"}
    weights = {f"d.{name}" for name, tensor in state.discriminator.named_parameters() if tensor.dim() > 1}
    assert weights <= moved
    assert all(parameter.grad is None or not parameter.grad.isnan().any() for parameter in state.generator.parameters())


@losses
@families
def test_the_generators_step_leaves_every_bit_of_the_discriminator(network: NetworkConfig, loss: Any) -> None:
    config = replace(TRAIN, loss=loss)
    state = trained(replace(config, steps=2), network, IMAGES)
    before = everything(state)
    d_gradients = [
        parameter.grad.clone() for parameter in state.discriminator.parameters() if parameter.grad is not None
    ]
    generator_step(state, Batches(state, IMAGES).generator(3))
    moved = changed(before, everything(state))
    assert {name.split(".")[0] for name in moved} == {"g", "g moments"}
    weights = {f"g.{name}" for name, tensor in state.generator.named_parameters() if tensor.dim() > 1}
    assert weights <= moved
    assert all(parameter.requires_grad for parameter in state.discriminator.parameters())
    assert all(
        torch.equal(before_gradient, parameter.grad)
        for before_gradient, parameter in zip(d_gradients, state.discriminator.parameters(), strict=True)
        if parameter.grad is not None
    )


@sharing
@families
def test_the_discriminators_step_sends_no_gradient_to_the_generator(network: NetworkConfig, generator_z: Any) -> None:
    state = fresh(TRAIN, network)
    batch = Batches(state, IMAGES).discriminator(1, 0)
    discriminator_step(state, batch, state.generated(batch.z) if generator_z == "shared" else None)
    assert all(parameter.grad is None for parameter in state.generator.parameters())
    assert all(parameter.grad is not None for parameter in state.discriminator.parameters())


@families
def test_a_shared_pass_is_a_pass_of_its_own_on_the_same_latents(network: NetworkConfig) -> None:
    config = replace(TRAIN, generator_z="shared")
    states, losses = (fresh(config, network), fresh(config, network)), []
    batches = Batches(states[0], IMAGES)
    for state, shared in zip(states, (True, False), strict=True):
        batch = batches.discriminator(1, config.discriminator_steps - 1)
        fake = state.generated(batch.z) if shared else None
        losses.append(discriminator_step(state, batch, fake))
        losses.append(generator_step(state, batches.generator(1), fake))
    assert losses[:2] == losses[2:]
    assert same_bits(everything(states[0]), everything(states[1]))


@pytest.mark.parametrize(("generator_z", "parts", "passes"), [("fresh", 1, 3), ("shared", 1, 2), ("shared", 2, 6)])
def test_sharing_saves_a_pass_through_the_generator(generator_z: Any, parts: int, passes: int) -> None:
    config = replace(TRAIN, discriminator_steps=2, generator_z=generator_z)
    state, passed = initial_state(config, MLP, IMAGES, Arithmetic(False, parts)), list[int]()
    state.generator.register_forward_hook(lambda _, inputs, images: passed.append(len(images)))
    train_step(state, Batches(state, IMAGES), 1)
    assert passed == [config.batch_size // parts] * passes


@sharing
def test_running_statistics_are_recorded_by_the_network_that_moves(generator_z: Any) -> None:
    state = trained(replace(TRAIN, generator_z=generator_z), DCGAN, IMAGES)
    tracked = {
        player: {int(m.num_batches_tracked) for m in network.modules() if isinstance(m, nn.BatchNorm2d)}  # type: ignore[arg-type]
        for player, network in (("d", state.discriminator), ("g", state.generator), ("ema", state.ema_generator))
    }
    # The discriminator sees a real and a generated batch in each of its k updates a step.
    assert tracked == {"d": {2 * TRAIN.discriminator_steps * TRAIN.steps}, "g": {TRAIN.steps}, "ema": {TRAIN.steps}}


# A world without chance: one real image, and a generator that does not look at z. What is descended then has a formula.
ONE = random_pixels(1, seed=5)
CERTAIN = replace(MLP, dropout=0.0)


def a_constant_generator(state: TrainState) -> tuple[Tensor, Tensor]:
    """Silence z in the generator; return the real image and the generated one."""
    first, *_ = (module for module in state.generator.modules() if isinstance(module, nn.Linear))
    with torch.no_grad():
        first.weight.zero_()
        first.bias.copy_(torch.linspace(0.5, 1.5, len(first.bias)))
    return to_unit_range(ONE), state.generator(torch.zeros(1, MLP.z_dim))


def leave_gradients(network: nn.Module) -> None:
    """Set gradients as an earlier step may have left them; none of it may reach the next."""
    for parameter in network.parameters():
        parameter.grad = torch.full_like(parameter, 100.0)


def half_squared_slope(discriminator: nn.Module, image: Tensor) -> Tensor:
    image = image.detach().requires_grad_()
    (slope,) = torch.autograd.grad(discriminator(image).sum(), image, create_graph=True)
    return (slope**2).sum() / 2


@pytest.mark.parametrize(("r1", "r2"), [(0.0, 0.0), (0.3, 0.0), (0.0, 0.7), (0.3, 0.7)])
@losses
def test_the_discriminator_descends_its_loss_and_both_penalties(loss: Any, r1: float, r2: float) -> None:
    config = replace(TRAIN, loss=loss, r1_gamma=r1, r2_gamma=r2)
    state = fresh(config, CERTAIN)
    real, fake = a_constant_generator(state)
    discriminator = state.discriminator
    d_real, d_fake = discriminator(real)[0], discriminator(fake.detach())[0]
    value = (
        -(d_real - d_fake).sigmoid().log()
        if loss == "relativistic"
        else -d_real.sigmoid().log() - (1 - d_fake.sigmoid()).log()
    )
    penalties = r1 * half_squared_slope(discriminator, real) + r2 * half_squared_slope(discriminator, fake)
    expected = torch.autograd.grad(value + penalties, list(discriminator.parameters()))

    before = [parameter.detach().clone() for parameter in discriminator.parameters()]
    leave_gradients(discriminator)
    discriminator_step(state, Batches(state, ONE).discriminator(1, 0))
    for old, new, gradient in zip(before, discriminator.parameters(), expected, strict=True):
        assert new.grad is not None
        assert torch.allclose(new.grad, gradient, rtol=1e-3, atol=1e-5)
        # Adam's first step is the learning rate against the sign of the gradient.
        strong = gradient.abs() > 1e-3
        step = largest(config.discriminator_learning_rate)
        assert torch.allclose((new - old)[strong], -step * gradient[strong].sign(), atol=step / 100)


@losses
def test_what_the_discriminators_step_reports_is_before_the_update_and_without_penalties(loss: Any) -> None:
    config = replace(TRAIN, loss=loss)
    state = fresh(config, CERTAIN)
    real, fake = a_constant_generator(state)
    real_logit, fake_logit = (state.discriminator(image).item() for image in (real, fake))

    def sigmoid(logit: float) -> float:
        return 1 / (1 + math.exp(-logit))

    expected = (
        -math.log(sigmoid(real_logit - fake_logit))
        if loss == "relativistic"
        else -math.log(sigmoid(real_logit)) - math.log(sigmoid(-fake_logit))
    )
    reported = discriminator_step(state, Batches(state, ONE).discriminator(1, 0))
    assert reported.item() == pytest.approx(expected, rel=1e-4)
    assert not reported.requires_grad


@losses
def test_the_generator_descends_its_loss(loss: Any) -> None:
    config = replace(TRAIN, loss=loss)
    state = fresh(config, CERTAIN)
    real, fake = a_constant_generator(state)
    d_real, d_fake = state.discriminator(real)[0].detach(), state.discriminator(fake)[0]
    value = {
        "minimax": (1 - d_fake.sigmoid()).log(),
        "non_saturating": -d_fake.sigmoid().log(),
        "relativistic": -(d_fake - d_real).sigmoid().log(),
    }[loss]
    expected = torch.autograd.grad(value, list(state.generator.parameters()))
    before = [parameter.detach().clone() for parameter in state.generator.parameters()]
    leave_gradients(state.generator)
    g_loss = generator_step(state, Batches(state, ONE).generator(1))
    assert g_loss.item() == pytest.approx(value.item(), rel=1e-4)
    compared = 0
    for old, new, gradient in list(zip(before, state.generator.parameters(), expected, strict=True))[1:]:
        assert new.grad is not None
        assert torch.allclose(new.grad, gradient, rtol=1e-3, atol=1e-5)
        strong = gradient.abs() > 1e-3
        step = largest(config.generator_learning_rate)
        assert torch.allclose((new - old)[strong], -step * gradient[strong].sign(), atol=step / 100)
        compared += int(strong.sum())
    assert compared > 20


@pytest.mark.parametrize("player", ["discriminator", "generator"])
def test_dropout_acts_in_both_networks_steps(player: str) -> None:
    losses = []
    for dropout in (0.0, 0.5):
        network = replace(MLP, dropout=dropout)
        state = fresh(TRAIN, network)
        batches = Batches(state, IMAGES)
        if player == "discriminator":
            losses.append(discriminator_step(state, batches.discriminator(1, 0)).item())
        else:
            losses.append(generator_step(state, batches.generator(1)).item())
    assert losses[0] != pytest.approx(losses[1], rel=1e-3)


@pytest.mark.parametrize("augmentation", [POLICY, ADAPTIVE], ids=["diffaugment", "ada"])
@families
def test_both_players_see_augmented_images_and_penalties_those_before(
    network: NetworkConfig, augmentation: AugmentationConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = fresh(replace(TRAIN, steps=2), network, augmentation=augmentation)
    state.augment_probability.fill_(0.9)
    shown, penalised, batch = list[Tensor](), list[Tensor](), Batches(state, IMAGES, unseen=IMAGES).discriminator(1, 0)
    state.discriminator.register_forward_hook(lambda _, inputs, __: shown.append(inputs[0].detach()))
    penalty = gradient_penalty

    def recorded(logits: Tensor, images: Tensor) -> Tensor:
        penalised.append(images)
        return penalty(logits, images)

    monkeypatch.setattr(gan_core.training.steps, "gradient_penalty", recorded)
    discriminator_step(state, batch)
    generator_step(state, Batches(state, IMAGES, unseen=IMAGES).generator(1))
    assert batch.real is not None
    assert torch.equal(penalised[0], batch.real)
    assert all(images.is_leaf for images in penalised)
    assert len(shown) == 4  # real and generated images, by both players' updates
    assert torch.equal(shown[0], augmented(batch.real, batch.real_draws, augmentation, torch.tensor(0.9)))
    assert torch.equal(shown[1], augmented(penalised[1], batch.fake_draws, augmentation, torch.tensor(0.9)))
    state.discriminator.eval()
    shown.clear()
    Instruments(state, IMAGES, IMAGES).read(state)
    assert any(torch.equal(shown[0], to_unit_range(IMAGES[indices])) for indices in [instrument_indices(state)])


def instrument_indices(state: TrainState) -> Tensor:
    rng = stream(state.config.seed, "instruments real", state.step)
    return torch.randint(len(IMAGES), (COUNT,), generator=rng)
