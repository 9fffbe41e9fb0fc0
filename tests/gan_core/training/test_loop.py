import math
from collections import Counter
from dataclasses import asdict, replace
from itertools import pairwise, product
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import gan_core.training.batches
import gan_core.training.steps
from gan_core.augmentation.augment import augmented
from gan_core.config import AugmentationConfig, NetworkConfig, Schedule, TrainConfig
from gan_core.generation.generate import generate
from gan_core.generation.latents import z_bank
from gan_core.losses.penalties import gradient_penalty
from gan_core.networks.mlp import MlpGenerator
from gan_core.runtime.device import Arithmetic
from gan_core.runtime.pixels import to_unit_range
from gan_core.runtime.randomness import stream
from gan_core.runtime.schedules import largest
from gan_core.training.batches import Batches
from gan_core.training.instruments import COUNT, Instruments
from gan_core.training.loop import NonFiniteLossError, adapt, set_schedules, train, update_ema
from gan_core.training.state import TrainState, initial_state, state_of
from gan_core.training.steps import discriminator_step, generator_step, train_step
from tests.gan_core.examples import (
    ADAPTIVE,
    DCGAN,
    IMAGES,
    MLP,
    POLICY,
    TRAIN,
    digits,
    everything,
    families,
    fresh,
    moments,
    random_pixels,
    same_bits,
    snapshot,
    trained,
)

sharing = pytest.mark.parametrize("generator_z", ["fresh", "shared"])
losses = pytest.mark.parametrize("loss", ["minimax", "non_saturating", "relativistic"])


def some_steps(config: TrainConfig, network: NetworkConfig) -> TrainState:
    """Return a state after two steps, where moments, averages and running statistics are no longer initial."""
    return trained(replace(config, steps=2), network, IMAGES)


def changed(before: dict[str, Tensor], after: dict[str, Tensor]) -> set[str]:
    return {name for name in before if not torch.equal(before[name], after[name])}


@losses
@families
def test_the_discriminators_step_leaves_every_bit_of_the_generator(network: NetworkConfig, loss: Any) -> None:
    config = replace(TRAIN, loss=loss)
    state = some_steps(config, network)
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
    state = some_steps(config, network)
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


@losses
@families
def test_no_two_draws_of_a_run_share_a_name(network: NetworkConfig, loss: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    config = replace(TRAIN, loss=loss, steps=300, discriminator_steps=3)
    state = fresh(config, network)
    drawn: Counter[tuple[Any, ...]] = Counter()

    def recorded(seed: int, purpose: str, *counters: int, device: torch.device | str = "cpu") -> torch.Generator:
        drawn[(seed, purpose, *counters)] += 1
        return stream(seed, purpose, *counters, device=device)

    monkeypatch.setattr(gan_core.training.batches, "stream", recorded)
    for _ in train(state, IMAGES):
        pass
    assert set(drawn.values()) == {1}
    assert {seed for seed, *_ in drawn} == {config.seed}
    # Four draws in each update; the generator's needs real images for a paired loss only.
    assert len(drawn) == config.steps * (4 * config.discriminator_steps + (4 if loss == "relativistic" else 3))


def test_training_works_on_points_as_on_images() -> None:
    """Normal points, 3.6 away from where the generator starts: the same steps, whatever the shape of a sample."""

    class Points(nn.Sequential):
        def forward(self, x: Tensor, rng: torch.Generator | None = None) -> Tensor:
            logits: Tensor = super().forward(x)  # type: ignore[no-untyped-call]  # torch left it so
            return logits.squeeze(1)

    torch.manual_seed(0)
    points = torch.randn(500, 2, generator=stream(0, "points")) + torch.tensor([3.0, -2.0])
    config = replace(TRAIN, steps=400, discriminator_steps=1, batch_size=64, beta1=0.0)
    discriminator = Points(nn.Linear(2, 16), nn.ReLU(), nn.Linear(16, 1))
    state = state_of(config, MLP, discriminator, nn.Sequential(nn.Linear(MLP.z_dim, 2)))
    for _ in train(state, points):
        pass
    centre = state.ema_generator(z_bank(MLP, seed=0, count=200)).mean(dim=0)
    assert torch.linalg.vector_norm(centre - points.mean(dim=0)) < 1


def test_training_starts_around_the_mean_image() -> None:
    dark = torch.full((10, 1, 8, 8), 3, dtype=torch.uint8)
    state = initial_state(TRAIN, MLP, dark)
    assert isinstance(state.generator, MlpGenerator)
    outputs = state.generator.layers[-1]
    assert isinstance(outputs, nn.Linear)
    assert torch.allclose(outputs.bias, torch.tensor(3 / 255).logit())


def test_real_batches_are_training_images_drawn_with_replacement() -> None:
    batches = Batches(fresh(replace(TRAIN, batch_size=300), MLP), IMAGES)
    batch, again = (batches.discriminator(1, 0).real for _ in range(2))
    assert batch is not None
    assert again is not None
    assert batch.shape == (300, *IMAGES.shape[1:])
    known = to_unit_range(IMAGES).flatten(1)
    distances = torch.cdist(batch.flatten(1), known, compute_mode="donot_use_mm_for_euclid_dist")
    assert distances.min(dim=1).values.max() == 0
    assert len(distances.argmin(dim=1).unique()) == len(IMAGES)  # 300 draws of 40 miss one with probability 0.02
    assert torch.equal(batch, again)
    for other in (batches.discriminator(1, 1), batches.discriminator(2, 0), batches.generator(1)):
        assert other.real is not None
        assert not torch.equal(batch, other.real)


@pytest.mark.parametrize("k", [1, 3])
@families
def test_k_updates_of_the_discriminator_for_one_of_the_generator(network: NetworkConfig, k: int) -> None:
    config = replace(TRAIN, discriminator_steps=k, steps=4)
    state = fresh(config, network)
    for report in train(state, IMAGES):
        updates = [
            {int(value) for name, value in moments(optimizer).items() if name.endswith(".step")}
            for optimizer in (state.d_optimizer, state.g_optimizer)
        ]
        assert updates == [{k * report.step}, {report.step}]
        assert state.step == report.step
    assert state.step == 4
    assert list(train(state, IMAGES)) == []


@families
def test_the_same_seed_trains_the_same_bits_and_another_does_not(network: NetworkConfig) -> None:
    torch.manual_seed(1)
    first = everything(trained(TRAIN, network, IMAGES))
    torch.manual_seed(2)
    again = everything(trained(TRAIN, network, IMAGES))
    other = everything(trained(replace(TRAIN, seed=8), network, IMAGES))
    assert same_bits(first, again)
    assert not same_bits(first, other)


@families
def test_the_average_is_the_closed_form_of_its_recursion(network: NetworkConfig) -> None:
    """e_n = prod b_i p_0 + sum_j (1 - b_j) prod_{i > j} b_i p_j: weights that sum to one."""
    config = replace(TRAIN, steps=6, ema_decay=0.3, ema_warmup=10.0)
    state = fresh(config, network)
    history = [[parameter.detach().double() for parameter in state.generator.parameters()]]
    history[0] = [parameter.clone() for parameter in history[0]]
    for _ in train(state, IMAGES):
        history.append([parameter.detach().double().clone() for parameter in state.generator.parameters()])
    decays = [1.0 - 1.0, 2 / 11, 3 / 12, 0.3, 0.3, 0.3, 0.3]
    weights = [(1 - decays[j]) * math.prod(decays[j + 1 :]) for j in range(7)]
    assert sum(weights) == pytest.approx(1, rel=1e-12)
    for index, ema in enumerate(state.ema_generator.parameters()):
        closed = sum((weight * past[index] for weight, past in zip(weights, history, strict=True)), torch.tensor(0.0))
        assert torch.allclose(ema.double(), closed, rtol=1e-4, atol=1e-6)
        assert not ema.requires_grad
    for ema_buffer, buffer in zip(state.ema_generator.buffers(), state.generator.buffers(), strict=True):
        assert torch.equal(ema_buffer, buffer)


def test_without_memory_the_average_is_the_generator() -> None:
    config = replace(TRAIN, ema_decay=0.0)
    state = some_steps(config, DCGAN)
    assert same_bits(snapshot(state.ema_generator), snapshot(state.generator))
    before = snapshot(state.generator)
    update_ema(state, 3)
    assert same_bits(snapshot(state.generator), before)


def test_learning_rates_beta2_and_gammas_follow_their_schedules() -> None:
    """Over 5 steps of 16 images; the cosine ends after 64 of them."""
    cosine = Schedule(0.5, 0.1, "cosine", 64)
    config = replace(
        TRAIN, steps=5, generator_learning_rate=3e-3, r1_gamma=cosine, beta2=Schedule(0.8, 0.9, "linear", 64)
    )
    state = fresh(config, MLP)
    gammas = state.gammas
    assert [gamma.item() for gamma in gammas] == pytest.approx([0.5, 0.7])
    wanted = ([1.0, 0.8, 0.6, 0.4, 0.2], [0.8, 0.825, 0.85, 0.875, 0.9], [0.5, 0.4414213562, 0.3, 0.1585786438, 0.1])
    for _, share, beta2, gamma in zip(train(state, IMAGES), *wanted, strict=True):
        for optimizer, rate in ((state.d_optimizer, 2e-2 * share), (state.g_optimizer, 3e-3)):
            (group,) = optimizer.param_groups
            assert (group["lr"], *group["betas"]) == pytest.approx((rate, TRAIN.beta1, beta2), rel=1e-12)
        assert [now.item() for now in state.gammas] == pytest.approx([gamma, 0.7], rel=1e-6)
    assert state.gammas is gammas  # in their places, from which a captured step reads them
    set_schedules(state, 1)
    assert state.d_optimizer.param_groups[0]["lr"] == 2e-2


@pytest.mark.parametrize("half_life", [40.0, 1e9, 0.0])
def test_after_its_half_life_an_average_has_gone_half_of_the_way(half_life: float) -> None:
    """Five steps of 16 images, in which only the average moves: what is left of it is 0.5^(80 / h)."""
    state = fresh(replace(TRAIN, ema_half_life=half_life), MLP)
    for parameter, averaged in zip(state.generator.parameters(), state.ema_generator.parameters(), strict=True):
        parameter.data.fill_(0.0)
        averaged.data.fill_(1.0)
    for step in range(1, 6):
        update_ema(state, step)
    left = {value for averaged in state.ema_generator.parameters() for value in averaged.flatten().tolist()}
    assert [*left] == pytest.approx([0.5 ** (80 / half_life) if half_life else 0.0] * len(left), rel=1e-5)


def test_the_optimizers_have_the_betas_of_the_configuration() -> None:
    state = fresh(TRAIN, MLP)
    for optimizer in (state.d_optimizer, state.g_optimizer):
        assert optimizer.param_groups[0]["betas"] == (TRAIN.beta1, TRAIN.beta2)
        assert optimizer.param_groups[0]["weight_decay"] == 0


def test_both_networks_and_the_average_start_from_the_seed() -> None:
    state = fresh(TRAIN, DCGAN)
    assert same_bits(snapshot(state.generator), snapshot(state.ema_generator))
    parameters = list(state.generator.parameters())
    for averaged, parameter in product(state.ema_generator.parameters(), parameters):
        assert averaged.data_ptr() != parameter.data_ptr()
    assert same_bits(everything(state), everything(fresh(replace(TRAIN, steps=99), DCGAN)))
    assert not same_bits(snapshot(state.generator), snapshot(fresh(replace(TRAIN, seed=8), DCGAN).generator))


@pytest.mark.parametrize("player", ["discriminator", "generator"])
@losses
def test_the_first_non_finite_step_is_named_even_if_read_later(player: str, loss: Any) -> None:
    config = replace(TRAIN, loss=loss)
    state = fresh(config, MLP)
    reports = []
    for report in train(state, IMAGES):
        reports.append(report)
        if report.step == 2:
            next(iter(getattr(state, player).parameters())).data.fill_(math.nan)
    assert [report.read()["step"] for report in reports[:2]] == [1, 2]
    for report in reports[2:]:
        with pytest.raises(NonFiniteLossError) as caught:
            report.read()
        assert caught.value.step == 3


@pytest.mark.parametrize("player", ["discriminator", "generator"])
def test_either_players_loss_is_enough(player: str, monkeypatch: pytest.MonkeyPatch) -> None:
    name = f"{player}_step"
    update = getattr(gan_core.training.steps, name)

    def overflowing(state: TrainState, *batch: Any) -> Any:
        loss = update(state, *batch)
        return torch.tensor(math.inf) if state.step == 2 else loss

    monkeypatch.setattr(gan_core.training.steps, name, overflowing)
    *_, last = train(fresh(TRAIN, MLP), IMAGES)
    with pytest.raises(NonFiniteLossError) as caught:
        last.read()
    assert caught.value.step == 3


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan])
def test_every_kind_of_non_finite_value_is_noted_once(value: float) -> None:
    losses = [0.0, -1e30, value, 1.0, value, 0.0]
    for report in train(fresh(TRAIN, MLP), IMAGES, lambda _, __, step: torch.tensor([0.0, losses[step - 1]])):
        assert report.first_non_finite_step.item() == (0 if report.step < 3 else 3)


@families
def test_a_report_is_read_as_plain_numbers(network: NetworkConfig) -> None:
    reports = list(train(fresh(TRAIN, network), IMAGES))
    assert [report.step for report in reports] == list(range(1, TRAIN.steps + 1))
    for report in reports:
        read = report.read()
        assert list(read) == ["step", "d_loss", "g_loss"]
        assert all(type(value) in (int, float) for value in read.values())
        assert not any(tensor.requires_grad for tensor in (report.d_loss, report.g_loss))


def test_every_choice_changes_the_result() -> None:
    config = replace(TRAIN, steps=3)
    usual = everything(trained(config, MLP, IMAGES))
    others: dict[str, Any] = {
        "seed": 1,
        "batch_size": 7,
        "discriminator_steps": 1,
        "generator_z": "shared",
        "mirror": True,
        "loss": "minimax",
        "r1_gamma": 0.4,
        "r2_gamma": 0.6,
        "penalty_gradient": "finite_difference",
        "wgan_gp": 0.1,
        "generator_learning_rate": 2e-2,
        "discriminator_learning_rate": 1e-2,
        "beta1": 0.4,
        "beta2": 0.8,
        "ema_half_life": 20.0,
        "ema_decay": 0.1,
        "ema_warmup": 3.0,
    }
    unread = {"class_balance"}  # without labels, see test_batches.py
    assert set(asdict(config)) - set(others) - unread == {"steps", "report_every", "sample_every", "checkpoint_every"}
    for name, value in others.items():
        assert not same_bits(usual, everything(trained(replace(config, **{name: value}), MLP, IMAGES))), name


def test_the_intervals_of_reports_change_no_bit() -> None:
    rarely = replace(TRAIN, report_every=5, sample_every=5, checkpoint_every=5)
    assert same_bits(everything(trained(TRAIN, MLP, IMAGES)), everything(trained(rarely, MLP, IMAGES)))


@losses
def test_one_image_is_learned(loss: Any) -> None:
    config = replace(TRAIN, loss=loss, steps=300, discriminator_steps=1, discriminator_learning_rate=1e-2, beta1=0.0)
    network = replace(MLP, generator_width=32, discriminator_width=32, dropout=0.0)
    one = random_pixels(1, size=9, seed=9) // 2 + 64
    z, learned = z_bank(network, seed=0, count=20), initial_state(config, network, one)
    list(train(learned, one))
    distances = [
        (generate(state.ema_generator, z).float() - one).abs().mean().item()
        for state in (initial_state(config, network, one), learned)
    ]
    assert distances[0] > 40
    assert distances[1] < 14


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


@pytest.mark.parametrize(("target", "sign"), [(0.0, 1), (1.0, -1)])
def test_a_probability_is_steered_every_fourth_step(target: float, sign: int) -> None:
    """A discriminator that has memorised its images takes unseen ones for something between; a target may be above."""
    config = replace(TRAIN, steps=9)
    state = fresh(config, DCGAN, augmentation=replace(ADAPTIVE, target=target))
    state.augment_probability.fill_(0.5)
    before = snapshot(state.discriminator)
    adapt(state, Batches(state, IMAGES, unseen=255 - IMAGES), 4)
    assert same_bits(before, snapshot(state.discriminator))
    moved = state.augment_probability.item() - 0.5
    step = 4 * config.discriminator_steps * config.batch_size / 500_000
    assert abs(moved) == pytest.approx(step, rel=1e-3)
    probabilities = []
    for report in train(state, Batches(state, IMAGES, unseen=IMAGES[:1] // 255 * 255)):
        probabilities.append((report.step, state.augment_probability.item()))
    changes = [now for (_, past), (now, p) in pairwise(probabilities) if p != past]
    assert changes == [4, 8]


def test_a_conditional_pair_learns_what_a_label_means() -> None:
    """Images of class 0 are dark and of class 1 light; labels that say nothing teach nothing."""
    network = replace(MLP, dropout=0.0, conditional=True)
    config = replace(
        TRAIN,
        steps=150,
        batch_size=32,
        discriminator_steps=1,
        beta1=0.0,
        generator_learning_rate=1e-2,
        discriminator_learning_rate=2e-2,
    )
    labels = torch.arange(40) % 2
    images = random_pixels(40) // 4 + (128 * labels).to(torch.uint8)[:, None, None, None]
    z, asked = z_bank(network, seed=1, count=64).repeat(2, 1), torch.arange(2).repeat_interleave(64)
    contrasts = []
    for shown in (labels, torch.arange(40) // 2 % 2):  # half of either class is dark
        state = initial_state(config, network, images, classes=2)
        list(train(state, Batches(state, images, shown)))
        dark, light = generate(state.ema_generator, z, asked).double().mean(dim=(1, 2, 3)).chunk(2)
        contrasts.append((light - dark).mean().item())
    assert contrasts[0] == pytest.approx(128, abs=40)
    assert abs(contrasts[1]) < 40


def test_a_scheduled_probability_is_that_of_the_images_seen_and_never_moves_its_place() -> None:
    schedule = Schedule(start=0.0, end=0.6, shape="linear", images=None)
    state = fresh(TRAIN, MLP, augmentation=replace(ADAPTIVE, probability=schedule))
    place = state.augment_probability.data_ptr()
    for report in train(state, IMAGES):
        expected = 0.6 * (report.step - 1) / TRAIN.steps
        assert state.augment_probability.item() == pytest.approx(expected, abs=1e-6)
    assert state.augment_probability.data_ptr() == place


def test_a_probability_rises_on_few_images_and_stays_on_many() -> None:
    """Ten digits are memorised; of 1,300 the discriminator learns what is true of unseen ones too."""
    images, _ = digits()
    images = images[torch.randperm(len(images), generator=stream(0, "mixed"))]
    rates: dict[str, Any] = {
        "generator_learning_rate": 1e-3,
        "discriminator_learning_rate": 2e-3,
        "beta1": 0.0,
        "beta2": 0.99,
    }
    config = replace(TRAIN, steps=400, batch_size=32, discriminator_steps=1, r1_gamma=0.1, r2_gamma=0.1, **rates)
    network = replace(MLP, generator_width=64, discriminator_width=64, z_dim=16, dropout=0.0)
    risen = []
    for count in (10, 1300):
        state = initial_state(config, network, images[:count], augmentation=replace(ADAPTIVE, geometry=0.0))
        list(train(state, Batches(state, images[:count], unseen=images[1300:])))
        risen.append(state.augment_probability.item())
    assert risen[0] > 0.0025
    assert risen[1] < 0.0006
