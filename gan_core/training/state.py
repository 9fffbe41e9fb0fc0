"""Both players and everything else that changes while they are trained."""

import copy
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from torch import Generator, Tensor, nn
from torch.optim import Adam, Optimizer

from gan_core.config import NetworkConfig, TrainConfig
from gan_core.networks.build import build_discriminator, build_generator
from gan_core.networks.mlp import MlpGenerator
from gan_core.runtime.device import PLAIN, Arithmetic


@dataclass
class TrainState:
    """Everything that changes while training runs; what a checkpoint holds."""

    network: NetworkConfig
    arithmetic: Arithmetic
    device: torch.device
    discriminator: nn.Module
    generator: nn.Module
    ema_generator: nn.Module
    d_optimizer: Optimizer
    g_optimizer: Optimizer
    first_non_finite_step: Tensor
    step: int = 0
    shared: Tensor | None = None
    """Images that the discriminator has just seen and the generator's step goes on from; None between steps."""

    def arithmetic_of_networks(self) -> AbstractContextManager[object]:
        """Return the context in which networks are applied: bfloat16 or nothing special. All else is float32."""
        return torch.autocast(self.device.type, torch.bfloat16) if self.arithmetic.bf16 else nullcontext()

    def generated(self, z: Tensor) -> Tensor:
        """Return G(z), in float32."""
        images: Tensor = self.generator(z)
        return images.float()

    def judged(self, images: Tensor, rng: Generator | None = None) -> Tensor:
        """Return the discriminator's logits (B,), in float32; with dropout where `rng` is given."""
        logits: Tensor = self.discriminator(images, rng)
        return logits.float()

    def parts(self, *batches: Tensor) -> Iterator[tuple[Tensor, ...]]:
        """Yield the parts in which batches of the same length go through the networks, side by side."""
        count = self.arithmetic.micro_batches
        return zip(*(batch.chunk(count) for batch in batches), strict=True)


def initial_state(
    config: TrainConfig,
    network: NetworkConfig,
    images: Tensor,
    arithmetic: Arithmetic = PLAIN,
    device: torch.device | None = None,
) -> TrainState:
    """Return both players for images, at step 0, their weights drawn from `config.seed`.

    Args:
        config: learning rates, betas and seed.
        network: family, latent space and widths.
        images: (N, C, H, W) uint8, the training images.
        arithmetic: precision and parts of a batch.
        device: where to train; None for where the images are.

    Returns:
        A state that `train` advances in place.
    """
    _, channels, size, _ = images.shape
    discriminator = build_discriminator(network, size=size, channels=channels, seed=config.seed)
    generator = build_generator(network, size=size, channels=channels, seed=config.seed)
    if isinstance(generator, MlpGenerator):
        generator.set_output_bias(images)
    place = images.device if device is None else device
    return state_of(config, network, discriminator.to(place), generator.to(place), arithmetic)


def state_of(
    config: TrainConfig,
    network: NetworkConfig,
    discriminator: nn.Module,
    generator: nn.Module,
    arithmetic: Arithmetic = PLAIN,
) -> TrainState:
    """Return the state, at step 0, of two players that are given.

    Args:
        config: learning rates and betas.
        network: read for the latent space.
        discriminator: maps a batch, and a generator of random numbers for dropout, to logits (B,).
        generator: maps z (B, Z) to a batch, on the discriminator's device.
        arithmetic: precision and parts of a batch.

    Returns:
        A state that `train` advances in place.
    """
    device = next(generator.parameters()).device
    for player in (discriminator, generator):
        player.to(memory_format=torch.channels_last)
    return TrainState(
        network=network,
        arithmetic=arithmetic,
        device=device,
        discriminator=discriminator,
        generator=generator,
        ema_generator=copy.deepcopy(generator).requires_grad_(False),
        d_optimizer=_adam(config, discriminator, config.discriminator_learning_rate, device, arithmetic),
        g_optimizer=_adam(config, generator, config.generator_learning_rate, device, arithmetic),
        first_non_finite_step=torch.zeros((), dtype=torch.int64, device=device),
    )


def _adam(
    config: TrainConfig, player: nn.Module, learning_rate: float, device: torch.device, arithmetic: Arithmetic
) -> Adam:
    betas = (config.beta1, config.beta2)
    if device.type == "cpu":  # fused, it would round differently in float32 too
        return Adam(player.parameters(), learning_rate, betas, fused=arithmetic.bf16)
    rate = torch.tensor(learning_rate, device=device)  # where a captured step reads it
    return Adam(player.parameters(), rate, betas, fused=True, capturable=True)
