"""Algorithm 1 of Goodfellow et al. 2014: k steps of the discriminator, one of the generator, over and over."""

import copy
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.optim import Adam, Optimizer

from gan_core.config import NetworkConfig, TrainConfig
from gan_core.images import draw_batch
from gan_core.losses import OBJECTIVES, gradient_penalty
from gan_core.networks import MlpGenerator, build_discriminator, build_generator, frozen_statistics
from gan_core.randomness import stream
from gan_core.sampling import draw_z


class NonFiniteLossError(ArithmeticError):
    """A loss became infinite or not a number; `step` is the first step where that happened."""

    def __init__(self, step: int) -> None:
        super().__init__(
            f"a loss was not finite at step {step}; lower the learning rates or raise r1_gamma, or use another loss"
        )
        self.step = step


@dataclass
class TrainState:
    """Everything that changes while training runs; what a checkpoint holds."""

    network: NetworkConfig
    discriminator: nn.Module
    generator: nn.Module
    ema_generator: nn.Module
    d_optimizer: Optimizer
    g_optimizer: Optimizer
    first_non_finite_step: Tensor
    step: int = 0


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


def initial_state(config: TrainConfig, network: NetworkConfig, images: Tensor) -> TrainState:
    """Return both players for images, at step 0, their weights drawn from `config.seed`.

    Args:
        config: learning rates, betas and seed.
        network: family, latent space and widths.
        images: (N, C, H, W) uint8, the training images, on the device where to train.

    Returns:
        A state that `train` advances in place.
    """
    _, channels, size, _ = images.shape
    discriminator = build_discriminator(network, size=size, channels=channels, seed=config.seed)
    generator = build_generator(network, size=size, channels=channels, seed=config.seed)
    if isinstance(generator, MlpGenerator):
        generator.set_output_bias(images)
    return state_of(config, network, discriminator.to(images.device), generator.to(images.device))


def state_of(config: TrainConfig, network: NetworkConfig, discriminator: nn.Module, generator: nn.Module) -> TrainState:
    """Return the state, at step 0, of two players that are given.

    Args:
        config: learning rates and betas.
        network: read for the latent space.
        discriminator: maps a batch, and a generator of random numbers for dropout, to logits (B,).
        generator: maps z (B, Z) to a batch, on the discriminator's device.

    Returns:
        A state that `train` advances in place.
    """
    betas = (config.beta1, config.beta2)
    return TrainState(
        network=network,
        discriminator=discriminator,
        generator=generator,
        ema_generator=copy.deepcopy(generator).requires_grad_(False),
        d_optimizer=Adam(discriminator.parameters(), config.discriminator_learning_rate, betas),
        g_optimizer=Adam(generator.parameters(), config.generator_learning_rate, betas),
        first_non_finite_step=torch.zeros((), dtype=torch.int64, device=next(generator.parameters()).device),
    )


def train(config: TrainConfig, state: TrainState, images: Tensor) -> Iterator[Report]:
    """Advance `state` from its step to `config.steps`, yielding a report after each step.

    Every draw is named by seed, purpose and step, so going on from a checkpoint gives the bits of never stopping.

    Args:
        config: Algorithm 1's numbers; `steps` counts generator updates.
        state: both players, changed in place; consistent whenever a report is yielded.
        images: (N, C, H, W) uint8, or points (N, D) float, on the device of the players.

    Yields:
        One report a step.
    """
    while state.step < config.steps:
        step = state.step + 1
        set_learning_rates(config, state, step)
        for k in range(config.discriminator_steps):
            d_loss = step_discriminator(config, state, images, step, k)
            note_non_finite(state, d_loss, step)
        g_loss = step_generator(config, state, images, step)
        note_non_finite(state, g_loss, step)
        update_ema(config, state, step)
        state.step = step
        yield Report(step, d_loss, g_loss, state.first_non_finite_step)


def step_discriminator(config: TrainConfig, state: TrainState, images: Tensor, step: int, k: int) -> Tensor:
    """Descend the discriminator's loss once; the generator keeps every bit.

    Args:
        config: the loss, the penalties' weights and the batch size.
        state: both players; the discriminator and its optimizer are changed.
        images: as `train` takes them.
        step: number of the generator update that follows, from 1.
        k: number of this update within the step, from 0.

    Returns:
        The loss without penalties, a detached scalar.
    """
    objective = OBJECTIVES[config.loss]
    real = draw_real(config, images, "real", step, k)
    with torch.no_grad(), frozen_statistics(state.generator):
        fake = state.generator(draw_z(state.network, config.batch_size, _rng(config, images, "z", step, k)))
    real.requires_grad_(config.r1_gamma > 0)
    fake.requires_grad_(config.r2_gamma > 0)

    real_logits = state.discriminator(real, _rng(config, images, "real dropout", step, k))
    fake_logits = state.discriminator(fake, _rng(config, images, "fake dropout", step, k))
    loss = objective.discriminator(real_logits=real_logits, fake_logits=fake_logits)
    penalised = loss
    if config.r1_gamma > 0:
        penalised = penalised + config.r1_gamma * gradient_penalty(real_logits, real)
    if config.r2_gamma > 0:
        penalised = penalised + config.r2_gamma * gradient_penalty(fake_logits, fake)

    state.d_optimizer.zero_grad()
    penalised.backward()
    state.d_optimizer.step()
    return loss.detach()


def step_generator(config: TrainConfig, state: TrainState, images: Tensor, step: int) -> Tensor:
    """Descend the generator's loss once; the discriminator keeps every bit.

    Args:
        config: the loss and the batch size.
        state: both players; the generator and its optimizer are changed.
        images: as `train` takes them; read by paired losses only.
        step: number of this update, from 1.

    Returns:
        The loss, a detached scalar.
    """
    objective = OBJECTIVES[config.loss]
    state.discriminator.requires_grad_(False)
    with frozen_statistics(state.discriminator):
        fake = state.generator(draw_z(state.network, config.batch_size, _rng(config, images, "generator z", step)))
        fake_logits = state.discriminator(fake, _rng(config, images, "generator fake dropout", step))
        real_logits = fake_logits.detach()
        if objective.paired:
            real = draw_real(config, images, "generator real", step)
            real_logits = state.discriminator(real, _rng(config, images, "generator real dropout", step))
    loss = objective.generator(real_logits=real_logits, fake_logits=fake_logits)

    state.g_optimizer.zero_grad()
    loss.backward()
    state.g_optimizer.step()
    state.discriminator.requires_grad_(True)
    return loss.detach()


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
    state.d_optimizer.param_groups[0]["lr"] = config.discriminator_learning_rate * share
    state.g_optimizer.param_groups[0]["lr"] = config.generator_learning_rate * share


def note_non_finite(state: TrainState, loss: Tensor, step: int) -> None:
    """Remember, on the device, the first step whose loss is not finite."""
    first = (state.first_non_finite_step == 0) & ~loss.isfinite()
    state.first_non_finite_step = torch.where(first, step, state.first_non_finite_step)


def draw_real(config: TrainConfig, images: Tensor, purpose: str, *counters: int) -> Tensor:
    """Return a batch drawn with replacement in O(B): images (B, C, H, W) in [-1, 1], points (B, D) as they are."""
    return draw_batch(images, config.batch_size, _rng(config, images, purpose, *counters))


def _rng(config: TrainConfig, images: Tensor, purpose: str, *counters: int) -> torch.Generator:
    return stream(config.seed, purpose, *counters, device=images.device)
