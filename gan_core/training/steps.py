"""One step of Algorithm 1."""

from collections.abc import Callable

import torch
from torch import Tensor

from gan_core.config import TrainConfig
from gan_core.losses.adversarial import OBJECTIVES
from gan_core.losses.penalties import gradient_penalty
from gan_core.networks.layers import frozen_statistics
from gan_core.runtime.distributed import all_reduce_gradients
from gan_core.training.batches import Batches
from gan_core.training.state import TrainState

Player = Callable[[TrainConfig, TrainState, Batches, int], Tensor]
"""Plays one step and returns its losses, as `play_step` does."""


def play_step(config: TrainConfig, state: TrainState, draws: Batches, step: int) -> Tensor:
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


def step_discriminator(config: TrainConfig, state: TrainState, draws: Batches, step: int, k: int) -> Tensor:
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

    all_reduce_gradients(state.discriminator)
    state.d_optimizer.step()
    return mean(losses)


def step_generator(config: TrainConfig, state: TrainState, draws: Batches, step: int) -> Tensor:
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

    all_reduce_gradients(state.generator)
    state.g_optimizer.step()
    state.discriminator.requires_grad_(True)
    return mean(losses)


def mean(losses: list[Tensor]) -> Tensor:
    """Return the mean of the losses of a batch's parts."""
    return losses[0] if len(losses) == 1 else torch.stack(losses).mean()
