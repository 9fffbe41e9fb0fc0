"""Algorithm 1 of Goodfellow et al. 2014: k steps of the discriminator, one of the generator, over and over."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from gan_core.augmentation.adaptive import EVERY, is_adaptive, next_probability, overfitting
from gan_core.config import AdaConfig, TrainConfig
from gan_core.networks.layers import frozen_statistics
from gan_core.runtime.distributed import all_reduce_mean
from gan_core.runtime.schedules import at_step
from gan_core.training.batches import Batches
from gan_core.training.state import TrainState, given_probability
from gan_core.training.steps import Step, judged, train_step


class NonFiniteLossError(ArithmeticError):
    """A loss became infinite or not a number; `step` is the first step at which it did."""

    def __init__(self, step: int) -> None:
        super().__init__(
            f"a loss was not finite at step {step}; lower the learning rates or raise r1_gamma, or use another loss"
        )
        self.step = step


@dataclass(frozen=True)
class Report:
    """The losses of one step: means over its last batches, left on the device until they are read.

    Losses are those before the update, without the gradient penalties.
    """

    step: int
    d_loss: Tensor
    g_loss: Tensor
    first_non_finite_step: Tensor

    def read(self) -> dict[str, float]:
        """Return `step`, and `d_loss` and `g_loss`; this waits for the device.

        NonFiniteLossError is raised if a loss of this step or of an earlier one was not finite.
        """
        if self.first_non_finite_step.item():
            raise NonFiniteLossError(int(self.first_non_finite_step.item()))
        return {"step": self.step, "d_loss": self.d_loss.item(), "g_loss": self.g_loss.item()}


def train(state: TrainState, images: Tensor | Batches, compute_step: Step = train_step) -> Iterator[Report]:
    """Advance `state` from its step to `state.config.steps`, which counts generator updates.

    Every draw is named by seed, purpose and step, so going on from a checkpoint gives the bits of never stopping.

    Args:
        state: both networks, changed in place; consistent whenever a report is yielded.
        images: (N, C, H, W) uint8, or points (N, D) float, on the device of the networks; or the batches of a training
            whose images are elsewhere or have labels.
        compute_step: computes one step as `train_step` does.

    Yields:
        One report a step.
    """
    batches = images if isinstance(images, Batches) else Batches(state, images)
    while state.step < state.config.steps:
        step = state.step + 1
        set_schedules(state, step)
        losses = all_reduce_mean(compute_step(state, batches, step))
        first = (state.first_non_finite_step == 0) & ~losses.isfinite().all()
        state.first_non_finite_step = torch.where(first, step, state.first_non_finite_step)
        update_ema(state, step)
        adapt(state, batches, step)
        state.step = step
        yield Report(step, losses[-2], losses[-1], state.first_non_finite_step)


@torch.no_grad()
def update_ema(state: TrainState, step: int) -> None:
    """Move the averaged generator: e <- b e + (1 - b) p. Running statistics are copied.

    With a half-life h, b = 0.5^(n / h) for the n images of a step: weights of h images ago count half, and with h = 0
    the average is the generator. Huang et al. 2024 let h grow from 0. Without one, b = min(ema_decay, (1 + step) /
    (ema_warmup + step)), whose second bound forgets the initial weights, which short runs would otherwise keep: it
    averages over about the last step / (ema_warmup - 1) steps.
    """
    averaged: list[Tensor] = list(state.ema_generator.parameters())
    current: list[Tensor] = list(state.generator.parameters())
    torch._foreach_lerp_(averaged, current, 1 - _ema_decay(state.config, step))
    for ema_buffer, buffer in zip(state.ema_generator.buffers(), state.generator.buffers(), strict=True):
        ema_buffer.copy_(buffer)


def _ema_decay(config: TrainConfig, step: int) -> float:
    if config.ema_half_life is None:
        return min(config.ema_decay, (1 + step) / (config.ema_warmup + step))
    half_life = at_step(config, config.ema_half_life, step)
    return 0.5 ** (config.batch_size * config.discriminator_steps / half_life) if half_life > 0 else 0.0


@torch.no_grad()
def adapt(state: TrainState, batches: Batches, step: int) -> None:
    """After every fourth step, raise or lower the probability of an adaptive augmentation, in place.

    Both networks are applied as in training, but without dropout, and record no running statistics.
    """
    config = state.augmentation
    if not isinstance(config, AdaConfig) or not is_adaptive(config) or step % EVERY:
        return
    real, unseen, (z, labels, draws) = batches.adaptation(step)
    with state.autocast(), frozen_statistics(state.generator), frozen_statistics(state.discriminator):
        shown = [real, unseen, (state.generated(z, labels), labels, draws)]
        logits = [judged(state, images, draws, labels=labels).mean() for images, labels, draws in shown]
    means = all_reduce_mean(torch.stack(logits))
    signal = overfitting(real_logits=means[0], unseen_logits=means[1], fake_logits=means[2])
    images = EVERY * state.config.discriminator_steps * state.config.batch_size
    probability = next_probability(state.augment_probability, signal, target=config.target, images=images)
    state.augment_probability.copy_(probability)


def set_schedules(state: TrainState, step: int) -> None:
    """Set both learning rates, beta2, the weights of R1 and R2 and a given probability of augmentation for a step.

    What a captured step reads is a tensor, which is filled in place.
    """
    config = state.config
    rates = config.discriminator_learning_rate, config.generator_learning_rate
    for optimizer, rate in zip((state.d_optimizer, state.g_optimizer), rates, strict=True):
        optimizer.learning_rate = _put(optimizer.learning_rate, at_step(config, rate, step))
        optimizer.beta2 = _put(optimizer.beta2, at_step(config, config.beta2, step))
    for gamma, scheduled in zip(state.gammas, (config.r1_gamma, config.r2_gamma), strict=True):
        gamma.fill_(at_step(config, scheduled, step))
    probability = given_probability(state.augmentation)
    if probability is not None:
        state.augment_probability.fill_(at_step(config, probability, step))


def _put(place: float | Tensor, value: float) -> float | Tensor:
    return place.fill_(value) if isinstance(place, Tensor) else value
