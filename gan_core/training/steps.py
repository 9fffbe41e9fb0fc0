"""One step of Algorithm 1."""

from collections.abc import Callable, Iterator

import torch
from torch import Generator, Tensor

from gan_core.augmentation.augment import augmented
from gan_core.losses.adversarial import OBJECTIVES
from gan_core.losses.penalties import DISTANCE, finite_difference_penalty, gradient_penalty, interpolated_penalty
from gan_core.networks.layers import advance_spectral_norms, frozen_statistics
from gan_core.runtime.distributed import all_reduce_gradients
from gan_core.runtime.schedules import largest
from gan_core.training.batches import Batches
from gan_core.training.state import TrainState
from gan_core.training.step_batch import StepBatch

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
                fake = state.generated(batch.z, batch.labels)
        losses.append(discriminator_step(state, batch, fake))
    losses.append(generator_step(state, batches.generator(step), fake))
    return torch.stack(losses)


def discriminator_step(state: TrainState, batch: StepBatch, fake: Tensor | None = None) -> Tensor:
    """Descend the discriminator's loss once and return it without penalties, a detached scalar.

    The generator keeps every bit. `fake` is G(z) of the batch; None to compute it without recording running statistics.
    """
    config, exact = state.config, state.config.penalty_gradient == "exact"
    state.discriminator.requires_grad_(True)  # a generator's step that ran out of memory may have left it frozen
    state.d_optimizer.zero_grad()
    advance_spectral_norms(state.discriminator)
    losses = []
    for part, made in batch.parts(state.arithmetic.micro_batches, None if fake is None else fake.detach()):
        assert part.real is not None
        with state.autocast():
            images = _unrecorded(state, part.z, part.labels) if made is None else made
            part.real.requires_grad_(exact and largest(config.r1_gamma) > 0)
            images.requires_grad_(exact and largest(config.r2_gamma) > 0)
            real_logits = judged(state, part.real, part.real_draws, part.real_rng, part.labels)
            fake_logits = judged(state, images, part.fake_draws, part.fake_rng, part.labels)

        loss = OBJECTIVES[config.loss].discriminator(real_logits=real_logits, fake_logits=fake_logits)
        penalised = loss
        for penalty in _penalties(state, part, images, real_logits, fake_logits):
            penalised = penalised + penalty
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
    for part, made in batch.parts(state.arithmetic.micro_batches, fake):
        with state.autocast(), frozen_statistics(state.discriminator):
            images = state.generated(part.z, part.labels) if made is None else made
            fake_logits = judged(state, images, part.fake_draws, part.fake_rng, part.labels)
            real_logits = fake_logits.detach()
            if part.real is not None:
                real_logits = judged(state, part.real, part.real_draws, part.real_rng, part.labels)
        loss = OBJECTIVES[state.config.loss].generator(real_logits=real_logits, fake_logits=fake_logits)
        (loss / state.arithmetic.micro_batches).backward()
        losses.append(loss.detach())

    all_reduce_gradients(state.generator)
    state.g_optimizer.step()
    state.discriminator.requires_grad_(True)
    return _mean(losses)


def judged(
    state: TrainState, images: Tensor, draws: Tensor, rng: Generator | None = None, labels: Tensor | None = None
) -> Tensor:
    """Return D(T(x)) in logits (B,): the one way in which a discriminator in training is applied."""
    return state.logits(augmented(images, draws, state.augmentation, state.augment_probability), rng, labels)


def _penalties(
    state: TrainState, batch: StepBatch, fake: Tensor, real_logits: Tensor, fake_logits: Tensor
) -> Iterator[Tensor]:
    """Yield the penalties that are on, times their weights, for a batch or a part of it.

    All are on the gradient by the image before augmentation; an interpolated one is augmented as its real image.
    """
    config, (r1, r2) = state.config, state.gammas
    kinds = (
        (config.r1_gamma, r1, batch.real, batch.real_draws, real_logits, batch.real_noise, batch.real_again),
        (config.r2_gamma, r2, fake, batch.fake_draws, fake_logits, batch.fake_noise, batch.fake_again),
    )
    for scheduled, gamma, images, draws, logits, noise, rng in kinds:
        assert images is not None
        if noise is not None:
            moved = _unrecorded_logits(state, images + DISTANCE * noise, draws, rng, batch.labels)
            yield gamma * finite_difference_penalty(logits=logits, moved_logits=moved)
        elif largest(scheduled) > 0:
            yield gamma * gradient_penalty(logits, images)
    if batch.mix is not None:
        assert batch.real is not None
        share = batch.mix.view(-1, *[1] * (fake.dim() - 1))
        mixed = torch.lerp(fake, batch.real, share).requires_grad_()
        logits = _unrecorded_logits(state, mixed, batch.real_draws, batch.mix_rng, batch.labels)
        yield config.wgan_gp * interpolated_penalty(logits, mixed)


def _unrecorded_logits(
    state: TrainState, images: Tensor, draws: Tensor, rng: Generator | None, labels: Tensor | None
) -> Tensor:
    """Return the discriminator's logits; its running statistics stay as they are."""
    with state.autocast(), frozen_statistics(state.discriminator):
        return judged(state, images, draws, rng, labels)


@torch.no_grad()
def _unrecorded(state: TrainState, z: Tensor, labels: Tensor | None) -> Tensor:
    """Return G(z) without a graph; the generator's running statistics stay as they are."""
    with frozen_statistics(state.generator):
        return state.generated(z, labels)


def _mean(losses: list[Tensor]) -> Tensor:
    """Return the mean of the losses of a batch's parts."""
    return losses[0] if len(losses) == 1 else torch.stack(losses).mean()
