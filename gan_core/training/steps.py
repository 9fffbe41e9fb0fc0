"""One step of Algorithm 1."""

from collections.abc import Callable

import torch
from torch import Generator, Tensor

from gan_core.augmentation.augment import augmented
from gan_core.losses.adversarial import OBJECTIVES
from gan_core.losses.penalties import gradient_penalty
from gan_core.networks.layers import frozen_statistics
from gan_core.runtime.distributed import all_reduce_gradients
from gan_core.training.batches import Batches, StepBatch
from gan_core.training.state import TrainState

Step = Callable[[TrainState, Batches, int], Tensor]
"""Computes one step and returns its losses, as `train_step` does."""


def train_step(state: TrainState, batches: Batches, step: int) -> Tensor:
    """Compute one step of Algorithm 1, from 1: k updates of the discriminator, one of the generator.

    Both networks are changed in place, neither the generator's average nor `state.step`. Returned are the losses
    (k + 1,): the discriminator's, then the generator's.
    """
    losses, fake, last = [], None, state.config.discriminator_steps - 1
    # One pass through the generator serves both updates; of a batch in parts none is kept.
    shared = state.config.generator_z == "shared" and state.arithmetic.micro_batches == 1
    for k in range(last + 1):
        batch = batches.discriminator(step, k)
        if k == last and shared:
            with state.autocast():
                fake = state.generated(batch.z)
        losses.append(discriminator_step(state, batch, fake))
    losses.append(generator_step(state, batches.generator(step), fake))
    return torch.stack(losses)


def discriminator_step(state: TrainState, batch: StepBatch, fake: Tensor | None = None) -> Tensor:
    """Descend the discriminator's loss once and return it without penalties, a detached scalar.

    The generator keeps every bit. `fake` is G(z) of the batch; None to compute it without recording running statistics.
    """
    assert batch.real is not None
    config = state.config
    state.discriminator.requires_grad_(True)  # a generator's step that ran out of memory may have left it frozen
    state.d_optimizer.zero_grad()
    losses = []
    sources = batch.z if fake is None else fake.detach()
    for real, source, real_draws, fake_draws in state.parts(batch.real, sources, batch.real_draws, batch.fake_draws):
        with state.autocast():
            images = _unrecorded(state, source) if fake is None else source
            real.requires_grad_(config.r1_gamma > 0)
            images.requires_grad_(config.r2_gamma > 0)
            real_logits = judged(state, real, real_draws, batch.real_rng)
            fake_logits = judged(state, images, fake_draws, batch.fake_rng)

        loss = OBJECTIVES[config.loss].discriminator(real_logits=real_logits, fake_logits=fake_logits)
        penalised = loss
        if config.r1_gamma > 0:
            penalised = penalised + config.r1_gamma * gradient_penalty(real_logits, real)
        if config.r2_gamma > 0:
            penalised = penalised + config.r2_gamma * gradient_penalty(fake_logits, images)
        (penalised / state.arithmetic.micro_batches).backward()
        losses.append(loss.detach())

    all_reduce_gradients(state.discriminator)
    state.d_optimizer.step()
    return _mean(losses)


def generator_step(state: TrainState, batch: StepBatch, fake: Tensor | None = None) -> Tensor:
    """Descend the generator's loss once and return it, a detached scalar; the discriminator keeps every bit.

    `fake` is G(z) of the batch, with its graph; None to compute it.
    """
    state.discriminator.requires_grad_(False)
    state.g_optimizer.zero_grad()
    losses = []
    sources = batch.z if fake is None else fake
    reals = sources if batch.real is None else batch.real
    for real, source, real_draws, fake_draws in state.parts(reals, sources, batch.real_draws, batch.fake_draws):
        with state.autocast(), frozen_statistics(state.discriminator):
            images = state.generated(source) if fake is None else source
            fake_logits = judged(state, images, fake_draws, batch.fake_rng)
            unread = batch.real is None
            real_logits = fake_logits.detach() if unread else judged(state, real, real_draws, batch.real_rng)
        loss = OBJECTIVES[state.config.loss].generator(real_logits=real_logits, fake_logits=fake_logits)
        (loss / state.arithmetic.micro_batches).backward()
        losses.append(loss.detach())

    all_reduce_gradients(state.generator)
    state.g_optimizer.step()
    state.discriminator.requires_grad_(True)
    return _mean(losses)


def judged(state: TrainState, images: Tensor, draws: Tensor, rng: Generator | None = None) -> Tensor:
    """Return D(T(x)) in logits (B,): the one way in which a discriminator in training is applied."""
    return state.logits(augmented(images, draws, state.augmentation, state.augment_probability), rng)


@torch.no_grad()
def _unrecorded(state: TrainState, z: Tensor) -> Tensor:
    """Return G(z) without a graph; the generator's running statistics stay as they are."""
    with frozen_statistics(state.generator):
        return state.generated(z)


def _mean(losses: list[Tensor]) -> Tensor:
    """Return the mean of the losses of a batch's parts."""
    return losses[0] if len(losses) == 1 else torch.stack(losses).mean()
