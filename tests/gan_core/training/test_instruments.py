import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from gan_core.generation.latents import z_bank
from gan_core.losses.adversarial import OBJECTIVES
from gan_core.runtime.pixels import to_unit_range
from gan_core.runtime.schedules import largest
from gan_core.training import instruments
from gan_core.training.batches import Batches
from gan_core.training.instruments import COUNT, NAMES, Instruments
from gan_core.training.loop import train
from gan_core.training.state import TrainState, state_of
from tests.gan_core.examples import (
    CONDITIONAL,
    IMAGES,
    MLP,
    TRAIN,
    everything,
    families,
    fresh,
    random_pixels,
    same_bits,
)

UNSEEN = random_pixels(30, seed=1)
losses = pytest.mark.parametrize("loss", OBJECTIVES)
LOG_4 = math.log(4)


class Levels(nn.Module):
    """Gives images a logit by their first pixel: scale times its value in [-1, 1], plus shift."""

    def __init__(self, scale: float, shift: float) -> None:
        super().__init__()
        self.weights = nn.Parameter(torch.tensor([scale, shift]))

    def forward(self, x: Tensor, rng: torch.Generator | None = None) -> Tensor:
        return self.weights[0] * x.flatten(1)[:, 0] + self.weights[1]


class Constant(nn.Module):
    """Makes one image of a grey level, whatever z is."""

    def __init__(self, level: float) -> None:
        super().__init__()
        self.level = nn.Parameter(torch.tensor(level))

    def forward(self, z: Tensor) -> Tensor:
        return self.level.expand(len(z), *IMAGES.shape[1:])


def grey(level: int) -> Tensor:
    return torch.full((10, *IMAGES.shape[1:]), level, dtype=torch.uint8)


def after_one_step(state: TrainState, images: Tensor = IMAGES) -> TrainState:
    """Return the state after one step of learning nothing: learning rates are tiny."""
    config = state.config
    state.config = replace(config, generator_learning_rate=1e-12, discriminator_learning_rate=1e-12)
    next(train(state, images))
    state.config = config
    return state


def reading(loss: Any, *, real: int, unseen: int, fake: float, scale: float = 3.0, shift: float = 0.0) -> Any:
    config = replace(TRAIN, loss=loss, steps=1, discriminator_steps=1, r1_gamma=1e-9, r2_gamma=0.0)
    state = after_one_step(state_of(config, MLP, Levels(scale, shift), Constant(fake)), grey(real))
    return Instruments(state, grey(real), grey(unseen)).read(state)


def sigmoid(logit: float) -> float:
    return 1 / (1 + math.exp(-logit))


def vote(output: float) -> float:
    """Return the logit of (1 + output) / 2, within [0.005, 0.995]."""
    probability = min(max((1 + output) / 2, 0.005), 0.995)
    return math.log(probability / (1 - probability))


@losses
def test_readings_are_their_formulas_where_all_images_of_a_kind_are_equal(loss: Any) -> None:
    readings = reading(loss, real=255, unseen=102, fake=-0.5, scale=3.0, shift=0.4)
    real, unseen, fake = 3.4, 3.0 * (102 / 127.5 - 1) + 0.4, -1.1

    def standing(kind: float) -> list[float]:
        logits = {"logit": (kind, fake), "vote": (vote(kind), vote(fake))}
        d_real, d_fake = logits.get(OBJECTIVES[loss].output, (kind - fake, fake - kind))
        value = math.log(sigmoid(d_real)) + math.log(1 - sigmoid(d_fake))
        distance = (abs(sigmoid(d_real) - 0.5) + abs(sigmoid(d_fake) - 0.5)) / 2
        return [sigmoid(d_real), sigmoid(d_fake), value, min(max((value + LOG_4) / 2, 0), math.log(2)), distance]

    seen, held = standing(real), standing(unseen)
    names = ["real_prob", "fake_prob", "value", "jsd", "distance"]
    assert [readings[name] for name in names] == pytest.approx(seen, rel=1e-5)
    names = ["unseen_prob", "unseen_value", "unseen_jsd", "unseen_distance"]
    assert [readings[name] for name in names] == pytest.approx([held[0], *held[2:]], rel=1e-5)
    assert readings["overfitting"] == pytest.approx((real - unseen) / (real - fake), rel=1e-5)
    signal = {"minimax": sigmoid(fake), "non_saturating": 1 - sigmoid(fake), "relativistic": sigmoid(real - fake)}
    signal |= {"least_squares": abs(fake), "hinge": 1.0, "wasserstein": 1.0}
    assert readings["g_signal"] == pytest.approx(signal[loss], rel=1e-5)
    assert list(readings) == list(NAMES)


@losses
def test_where_the_discriminator_cannot_tell_the_game_is_at_its_equilibrium(loss: Any) -> None:
    readings = reading(loss, real=255, unseen=0, fake=0.3, scale=0.0)  # and a logit of 0 for all
    expected = {"real_prob": 0.5, "fake_prob": 0.5, "unseen_prob": 0.5, "value": -LOG_4, "unseen_value": -LOG_4}
    expected |= dict.fromkeys(("jsd", "unseen_jsd", "distance", "unseen_distance"), 0.0)
    assert {name: readings[name] for name in expected} == pytest.approx(expected, abs=1e-6)


@losses
@pytest.mark.parametrize(("unseen", "share"), [(255, 0.0), (0, 1.0)])
def test_overfitting_is_whether_unseen_images_pass_for_real_or_for_generated(
    loss: Any, unseen: int, share: float
) -> None:
    assert reading(loss, real=255, unseen=unseen, fake=-1.0)["overfitting"] == pytest.approx(share, abs=1e-5)


@families
def test_gradient_norms_are_of_what_the_networks_descended_last(network: Any) -> None:
    state = fresh(TRAIN, network)
    for _ in train(state, IMAGES):
        readings = Instruments(state, IMAGES, UNSEEN).read(state)
        for name, player in (("d_grad_norm", state.discriminator), ("g_grad_norm", state.generator)):
            gradients = [parameter.grad.flatten() for parameter in player.parameters() if parameter.grad is not None]
            assert readings[name] == pytest.approx(torch.cat(gradients).norm().item(), rel=1e-5)
            assert readings[name] > 0


@families
def test_the_update_ratio_is_the_length_of_the_last_step_over_that_of_the_weights(network: Any) -> None:
    state = fresh(TRAIN, network)

    def weights() -> Tensor:
        return torch.cat([parameter.detach().double().flatten() for parameter in state.generator.parameters()])

    before = weights()
    for _ in train(state, IMAGES):
        after = weights()
        decayed = state.g_optimizer.learning_rate / largest(TRAIN.generator_learning_rate)
        ratio = ((after - before).norm() / after.norm()).item() / decayed
        readings = Instruments(state, IMAGES, UNSEEN).read(state)["g_update_ratio"]
        assert readings == pytest.approx(ratio, rel=1e-3)
        before = after


@losses
def test_without_a_gap_between_real_and_generated_there_is_no_overfitting(loss: Any) -> None:
    assert reading(loss, real=255, unseen=0, fake=1.0)["overfitting"] == 0


def test_variety_is_zero_for_one_image_and_one_for_what_varies_as_the_real_ones() -> None:
    state = after_one_step(fresh(TRAIN, MLP))
    state.generator = Constant(0.2)
    state.generator.level.grad = torch.zeros(())
    read = Instruments(state, IMAGES, UNSEEN).read
    assert read(state)["variety"] == 0

    class Real(nn.Module):
        def __init__(self, copies: int) -> None:
            super().__init__()
            self.images = to_unit_range(random_pixels(copies, seed=copies))
            self.scale = nn.Parameter(torch.ones(()))
            self.scale.grad = torch.zeros(())

        def forward(self, z: Tensor) -> Tensor:
            return self.scale * self.images[torch.arange(len(z)) % len(self.images)]

    for copies, expected in ((COUNT, 1.0), (2, 0.5), (4, 0.75)):
        state.generator = Real(copies)
        assert read(state)["variety"] == pytest.approx(expected, rel=0.1)


def test_the_bank_is_the_one_of_the_seed() -> None:
    drawn: list[Tensor] = []
    state = after_one_step(fresh(TRAIN, MLP))
    state.generator.register_forward_hook(lambda module, inputs, output: drawn.append(inputs[0]))
    for _ in range(2):
        Instruments(state, IMAGES, UNSEEN).read(state)
    assert torch.equal(drawn[0], z_bank(MLP, seed=TRAIN.seed, count=COUNT))
    assert torch.equal(drawn[0], drawn[1])


def test_readings_are_of_images_of_all_classes_if_they_are_sorted(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[Tensor] = []

    def taken(images: Tensor, indices: Tensor, device: torch.device) -> Tensor:
        drawn.append(indices)
        return to_unit_range(images[indices])

    monkeypatch.setattr(instruments, "taken", taken)
    state = after_one_step(fresh(TRAIN, MLP))
    images = random_pixels(1000)  # 100 of a class, class after class
    Instruments(state, images, images).read(state)
    for indices in drawn:
        shares = torch.bincount(indices // 100, minlength=10) / COUNT
        assert (shares - 0.1).abs().max() < 0.13  # 3.5 standard deviations
    assert (len(drawn), torch.equal(*drawn)) == (2, False)


@families
@losses
def test_reading_changes_no_bit_of_the_training(network: Any, loss: Any) -> None:
    config = replace(TRAIN, loss=loss)
    alone, read = fresh(config, network), fresh(config, network)
    for _ in train(alone, IMAGES):
        pass
    monitored = Instruments(read, IMAGES, UNSEEN)
    readings = []
    for _ in train(read, IMAGES):
        readings.append(monitored.read(read))
        assert readings[-1] == monitored.read(read)
    assert same_bits(everything(alone), everything(read))
    assert all(math.isfinite(value) for row in readings for value in row.values())


class Matching(nn.Module):
    """Gives an image a logit of 5 if its first pixel is that of its label, 1 white and 0 black, else -5."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(5.0))

    def forward(self, x: Tensor, rng: torch.Generator | None = None, labels: Tensor | None = None) -> Tensor:
        assert labels is not None
        return self.scale * x.flatten(1)[:, 0].sign() * (2 * labels - 1)


class Coloured(nn.Module):
    """Makes a black image for label 0 and a white one for label 1, whatever z is."""

    def __init__(self) -> None:
        super().__init__()
        self.level = nn.Parameter(torch.tensor(1.0))

    def forward(self, z: Tensor, labels: Tensor) -> Tensor:
        return (self.level * (2 * labels - 1)).view(-1, 1, 1, 1).expand(-1, *IMAGES.shape[1:])


def test_every_image_is_read_with_its_own_label() -> None:
    labels, unseen_labels = torch.arange(10) % 2, torch.arange(10) // 5
    images, unseen = (
        255 * of.to(torch.uint8).view(-1, 1, 1, 1) * torch.ones(IMAGES.shape[1:], dtype=torch.uint8)
        for of in (labels, unseen_labels)
    )
    config = replace(TRAIN, loss="non_saturating", steps=1, r1_gamma=0.0, r2_gamma=0.0)
    state = state_of(
        replace(config, generator_learning_rate=1e-12, discriminator_learning_rate=1e-12),
        CONDITIONAL[0],
        Matching(),
        Coloured(),
    )
    next(train(state, Batches(state, images, labels)))
    readings = Instruments(state, images, unseen, (labels, unseen_labels)).read(state)
    certain = sigmoid(5.0)
    assert [readings[name] for name in ("real_prob", "fake_prob", "unseen_prob")] == pytest.approx([certain] * 3)
    swapped = Instruments(state, images, unseen, (labels, 1 - unseen_labels)).read(state)
    assert swapped["unseen_prob"] == pytest.approx(1 - certain, rel=1e-3)
    assert readings["variety"] == pytest.approx(1, abs=0.1)
