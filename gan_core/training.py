"""Algorithm 1 of Goodfellow et al. 2014: k steps of the discriminator, one of the generator, over and over."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from gan_core.config import TrainConfig
from gan_core.draws import Draws
from gan_core.losses import OBJECTIVES, gradient_penalty
from gan_core.networks import frozen_statistics
from gan_core.ranks import average, average_gradients
from gan_core.state import TrainState


class NonFiniteLossError(ArithmeticError):
    """A loss became infinite or not a number; `step` is the first step where that happened."""

    def __init__(self, step: int) -> None:
        super().__init__(
            f"a loss was not finite at step {step}; lower the learning rates or raise r1_gamma, or use another loss"
        )
        self.step = step


@dataclass(frozen=True)
class Report:
    """What one step did: means over its last batches, in nats, left on the device until somebody reads them.

    Losses are those before the update, without the gradient penalties.
    """

    step: int
    d_loss: Tensor
    g_loss: Tensor
    first_non_finite_step: Tensor

    def read(self) -> dict[str, float]:
        """Return step and numbers by name; this waits for the device.

        Returns:
            `step`, `d_loss` and `g_loss`.

        Raises:
            NonFiniteLossError: a loss of this step or of an earlier one was not finite.
        """
        if self.first_non_finite_step.item():
            raise NonFiniteLossError(int(self.first_non_finite_step.item()))
        return {"step": self.step, "d_loss": self.d_loss.item(), "g_loss": self.g_loss.item()}


Player = Callable[[TrainConfig, TrainState, Draws, int], Tensor]
"""Plays one step and returns its losses, as `play_step` does."""


def train(
    config: TrainConfig, state: TrainState, images: Tensor | Draws, play: Player | None = None
) -> Iterator[Report]:
    """Advance `state` from its step to `config.steps`, yielding a report after each step.

    Every draw is named by seed, purpose and step, so going on from a checkpoint gives the bits of never stopping.

    Args:
        config: Algorithm 1's numbers; `steps` counts generator updates.
        state: both players, changed in place; consistent whenever a report is yielded.
        images: (N, C, H, W) uint8, or points (N, D) float, on the device of the players; or the draws of a training
            whose images are elsewhere.
        play: how one step is played; None for `play_step`.

    Yields:
        One report a step.
    """
    draws = images if isinstance(images, Draws) else Draws(config, images)
    while state.step < config.steps:
        step = state.step + 1
        set_learning_rates(config, state, step)
        losses = average((play or play_step)(config, state, draws, step))
        note_non_finite(state, losses, step)
        update_ema(config, state, step)
        state.step = step
        yield Report(step, losses[-2], losses[-1], state.first_non_finite_step)


def play_step(config: TrainConfig, state: TrainState, draws: Draws, step: int) -> Tensor:
    """Play one step of Algorithm 1: k updates of the discriminator, one of the generator.

    Args:
        config: the loss, the penalties' weights, k and the batch size.
        state: both players, changed in place; neither their average nor `state.step`.
        draws: of this training.
        step: number of the step, from 1.

    Returns:
        The losses (k + 1,) in nats: the discriminator's, then the generator's.
    """
    d_losses = [step_discriminator(config, state, draws, step, k) for k in range(config.discriminator_steps)]
    return torch.stack([*d_losses, step_generator(config, state, draws, step)])


def step_discriminator(config: TrainConfig, state: TrainState, draws: Draws, step: int, k: int) -> Tensor:
    """Descend the discriminator's loss once; the generator keeps every bit.

    Only where the generator's step shares the images of this one, its running statistics are recorded here already.

    Args:
        config: the loss, the penalties' weights and the batch size.
        state: both players; the discriminator and its optimizer are changed, and `shared` is set.
        draws: of this training.
        step: number of the generator update that follows, from 1.
        k: number of this update within the step, from 0.

    Returns:
        The loss without penalties, a detached scalar.
    """
    state.discriminator.requires_grad_(True)  # a generator's step that ran out of memory may have left it frozen
    objective = OBJECTIVES[config.loss]
    real_rng, fake_rng = draws.rng("real dropout", step, k), draws.rng("fake dropout", step, k)
    state.d_optimizer.zero_grad()
    state.shared = None
    # Of parts nothing is kept: to go through the generator twice is the price of little memory.
    kept = (
        config.generator_z == "shared" and k == config.discriminator_steps - 1 and state.arithmetic.micro_batches == 1
    )
    losses = []
    for real, z in state.parts(draws.real("real", step, k), draws.z(state.network, "z", step, k)):
        with state.arithmetic_of_networks():
            if kept:
                state.shared = state.generated(z)
                fake = state.shared.detach()
            else:
                with torch.no_grad(), frozen_statistics(state.generator):
                    fake = state.generated(z)
            real.requires_grad_(config.r1_gamma > 0)
            fake.requires_grad_(config.r2_gamma > 0)
            real_logits = state.judged(real, real_rng)
            fake_logits = state.judged(fake, fake_rng)

        loss = objective.discriminator(real_logits=real_logits, fake_logits=fake_logits)
        penalised = loss
        if config.r1_gamma > 0:
            penalised = penalised + config.r1_gamma * gradient_penalty(real_logits, real)
        if config.r2_gamma > 0:
            penalised = penalised + config.r2_gamma * gradient_penalty(fake_logits, fake)
        (penalised / state.arithmetic.micro_batches).backward()
        losses.append(loss.detach())

    average_gradients(state.discriminator)
    state.d_optimizer.step()
    return mean(losses)


def step_generator(config: TrainConfig, state: TrainState, draws: Draws, step: int) -> Tensor:
    """Descend the generator's loss once; the discriminator keeps every bit.

    Args:
        config: the loss and the batch size.
        state: both players; the generator and its optimizer are changed.
        draws: of this training; real images are drawn by paired losses only.
        step: number of this update, from 1.

    Returns:
        The loss, a detached scalar.
    """
    objective = OBJECTIVES[config.loss]
    name = ("generator z", step) if config.generator_z == "fresh" else ("z", step, config.discriminator_steps - 1)
    shared, state.shared = state.shared, None
    sources = draws.z(state.network, *name) if shared is None else shared
    fake_rng = draws.rng("generator fake dropout", step)
    reals, real_rng = sources, fake_rng  # read by nobody, unless ...
    if objective.paired:
        reals, real_rng = draws.real("generator real", step), draws.rng("generator real dropout", step)
    state.discriminator.requires_grad_(False)
    state.g_optimizer.zero_grad()
    losses = []
    for real, source in state.parts(reals, sources):
        with state.arithmetic_of_networks(), frozen_statistics(state.discriminator):
            fake_logits = state.judged(state.generated(source) if shared is None else source, fake_rng)
            real_logits = state.judged(real, real_rng) if objective.paired else fake_logits.detach()
        loss = objective.generator(real_logits=real_logits, fake_logits=fake_logits)
        (loss / state.arithmetic.micro_batches).backward()
        losses.append(loss.detach())

    average_gradients(state.generator)
    state.g_optimizer.step()
    state.discriminator.requires_grad_(True)
    return mean(losses)


@torch.no_grad()
def update_ema(config: TrainConfig, state: TrainState, step: int) -> None:
    """Move the averaged generator: e <- b e + (1 - b) p with b = min(ema_decay, (1 + step) / (ema_warmup + step)).

    The second bound forgets the initial weights, which short runs would otherwise keep: it averages over about the last
    step / (ema_warmup - 1) steps. Running statistics are copied.
    """
    decay = min(config.ema_decay, (1 + step) / (config.ema_warmup + step))
    averaged: list[Tensor] = list(state.ema_generator.parameters())
    current: list[Tensor] = list(state.generator.parameters())
    torch._foreach_lerp_(averaged, current, 1 - decay)
    for ema_buffer, buffer in zip(state.ema_generator.buffers(), state.generator.buffers(), strict=True):
        ema_buffer.copy_(buffer)


def set_learning_rates(config: TrainConfig, state: TrainState, step: int) -> None:
    """Set both learning rates for a step: constant, or falling linearly to zero after the last step."""
    share = 1.0 if config.learning_rate_decay == "none" else 1 - (step - 1) / config.steps
    rates = config.discriminator_learning_rate * share, config.generator_learning_rate * share
    for optimizer, rate in zip((state.d_optimizer, state.g_optimizer), rates, strict=True):
        (group,) = optimizer.param_groups
        if isinstance(group["lr"], Tensor):
            group["lr"].fill_(rate)
        else:
            group["lr"] = rate


def note_non_finite(state: TrainState, losses: Tensor, step: int) -> None:
    """Remember, on the device, the first step one of whose losses is not finite."""
    first = (state.first_non_finite_step == 0) & ~losses.isfinite().all()
    state.first_non_finite_step = torch.where(first, step, state.first_non_finite_step)


def mean(losses: list[Tensor]) -> Tensor:
    """Return the mean of the losses of a batch's parts."""
    return losses[0] if len(losses) == 1 else torch.stack(losses).mean()
