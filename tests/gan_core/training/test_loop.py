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
from gan_core.config import NetworkConfig, Schedule
from gan_core.generation.generate import generate
from gan_core.generation.latents import z_bank
from gan_core.networks.mlp import MlpGenerator
from gan_core.runtime.pixels import to_unit_range
from gan_core.runtime.randomness import stream
from gan_core.training.batches import Batches
from gan_core.training.loop import NonFiniteLossError, adapt, set_schedules, train, update_ema
from gan_core.training.state import TrainState, initial_state, state_of
from tests.gan_core.examples import (
    ADAPTIVE,
    DCGAN,
    IMAGES,
    MLP,
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


@losses
@families
def test_no_two_draws_of_a_run_share_a_name(network: NetworkConfig, loss: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    config = replace(TRAIN, loss=loss, steps=25, discriminator_steps=3)
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
            {int(value) for name, value in moments(optimizer).items() if name.endswith("/step")}
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
    state = trained(replace(config, steps=2), DCGAN, IMAGES)
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
            numbers = (optimizer.learning_rate, optimizer.beta1, optimizer.beta2)
            assert numbers == pytest.approx((rate, TRAIN.beta1, beta2), rel=1e-12)
        assert [now.item() for now in state.gammas] == pytest.approx([gamma, 0.7], rel=1e-6)
    assert state.gammas is gammas  # in their places, from which a captured step reads them
    set_schedules(state, 1)
    assert state.d_optimizer.learning_rate == 2e-2


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
        assert (optimizer.beta1, optimizer.beta2) == (TRAIN.beta1, TRAIN.beta2)


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
    rhythm = {"report_every", "sample_every", "checkpoint_every", "snapshots"}
    assert set(asdict(config)) - set(others) - unread == {"steps"} | rhythm
    for name, value in others.items():
        assert not same_bits(usual, everything(trained(replace(config, **{name: value}), MLP, IMAGES))), name


def test_the_intervals_of_reports_change_no_bit() -> None:
    rarely = replace(TRAIN, report_every=5, sample_every=5, checkpoint_every=5, snapshots=1)
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
