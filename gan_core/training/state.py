"""Both networks and everything else that changes during training."""

import copy
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from torch import Generator, Tensor, nn

from gan_core.augmentation.augment import NONE
from gan_core.config import AdaConfig, AugmentationConfig, NetworkConfig, Schedule, Scheduled, TrainConfig
from gan_core.networks.build import StartsAtImages, build_discriminator, build_generator
from gan_core.runtime.adam import Adam
from gan_core.runtime.device import PLAIN, Arithmetic
from gan_core.runtime.randomness import stream
from gan_core.runtime.schedules import at_step


@dataclass
class TrainState:
    """Everything that changes during training, which a checkpoint holds, and the configuration, which does not.

    `gammas` are the weights of R1 and R2 in this step, which their schedules determine.
    """

    config: TrainConfig
    network: NetworkConfig
    augmentation: AugmentationConfig
    arithmetic: Arithmetic
    device: torch.device
    discriminator: nn.Module
    generator: nn.Module
    ema_generator: nn.Module
    d_optimizer: Adam
    g_optimizer: Adam
    gammas: tuple[Tensor, Tensor]
    augment_probability: Tensor
    first_non_finite_step: Tensor
    step: int = 0

    def autocast(self) -> AbstractContextManager[object]:
        """Return the context in which networks are applied: in bfloat16 or unchanged. All else is float32."""
        return torch.autocast(self.device.type, torch.bfloat16) if self.arithmetic.bf16 else nullcontext()

    def generated(self, z: Tensor, labels: Tensor | None = None) -> Tensor:
        """Return G(z), or G(z, y) if the networks are conditional, in float32."""
        images: Tensor = self.generator(z) if labels is None else self.generator(z, labels)
        return images.float()

    def logits(self, images: Tensor, rng: Generator | None = None, labels: Tensor | None = None) -> Tensor:
        """Return the discriminator's logits (B,), in float32; with dropout if `rng` is given."""
        logits: Tensor = self.discriminator(images, rng) if labels is None else self.discriminator(images, rng, labels)
        return logits.float()


def initial_state(
    config: TrainConfig,
    network: NetworkConfig,
    images: Tensor,
    arithmetic: Arithmetic = PLAIN,
    device: torch.device | None = None,
    augmentation: AugmentationConfig = NONE,
    classes: int = 0,
) -> TrainState:
    """Return both networks for images, at step 0, their weights drawn from `config.seed`.

    The training images are (N, C, H, W) uint8; `device`, where to train, is by default theirs; `classes` are those of
    conditional networks, else 0.
    """
    _, channels, size, _ = images.shape
    discriminator = build_discriminator(network, size=size, channels=channels, classes=classes, seed=config.seed)
    generator = build_generator(network, size=size, channels=channels, classes=classes, seed=config.seed)
    if isinstance(generator, StartsAtImages):
        generator.start_at(images, stream(config.seed, "mean image"))
    place = images.device if device is None else device
    return state_of(config, network, discriminator.to(place), generator.to(place), arithmetic, augmentation)


def state_of(
    config: TrainConfig,
    network: NetworkConfig,
    discriminator: nn.Module,
    generator: nn.Module,
    arithmetic: Arithmetic = PLAIN,
    augmentation: AugmentationConfig = NONE,
) -> TrainState:
    """Return the state, at step 0, of two given networks on one device; of `network` only the latent space is read.

    The discriminator maps a batch, and a `torch.Generator` for dropout, to logits (B,); the generator maps z (B, Z) to
    a batch. Both get labels (B,) too if the batches of the training have any.
    """
    device = next(generator.parameters()).device

    def at_first(scheduled: Scheduled) -> Tensor:
        return torch.tensor(at_step(config, scheduled, 1), device=device)

    for module in (discriminator, generator):
        module.to(memory_format=torch.channels_last)
    return TrainState(
        config=config,
        network=network,
        augmentation=augmentation,
        arithmetic=arithmetic,
        device=device,
        discriminator=discriminator,
        generator=generator,
        ema_generator=copy.deepcopy(generator).requires_grad_(False),
        d_optimizer=_adam(config, discriminator, config.discriminator_learning_rate, arithmetic),
        g_optimizer=_adam(config, generator, config.generator_learning_rate, arithmetic),
        gammas=(at_first(config.r1_gamma), at_first(config.r2_gamma)),
        augment_probability=at_first(given_probability(augmentation) or 0.0),
        first_non_finite_step=torch.zeros((), dtype=torch.int64, device=device),
    )


def given_probability(augmentation: AugmentationConfig) -> Scheduled | None:
    """Return the probability of an augmentation that has a given one."""
    probability = augmentation.probability if isinstance(augmentation, AdaConfig) else "adaptive"
    return None if probability == "adaptive" else probability


def _adam(config: TrainConfig, module: nn.Module, learning_rate: Scheduled, arithmetic: Arithmetic) -> Adam:
    first, beta2 = (at_step(config, scheduled, 1) for scheduled in (learning_rate, config.beta2))
    device = next(module.parameters()).device
    if device.type == "cpu":  # fused, it would round differently in float32 too
        return Adam(module, first, config.beta1, beta2, fused=arithmetic.bf16)
    rate = torch.tensor(first, device=device)  # from which a captured step reads it
    changing = torch.tensor(beta2, device=device) if isinstance(config.beta2, Schedule) else beta2
    return Adam(module, rate, config.beta1, changing, fused=True)
