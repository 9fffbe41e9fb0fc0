"""The players: the multilayer perceptrons of Goodfellow et al. 2014 and a convolutional pair after Radford et al. 2015.

Images are (B, C, H, W) in [-1, 1] with H = W between 8 and 64 and C of 1 or 3; logits are (B,).
"""

from torch import Generator, nn

from gan_core.config import LARGEST_SIZE, SMALLEST_SIZE, NetworkConfig
from gan_core.networks.dcgan import DcganDiscriminator, DcganGenerator
from gan_core.networks.layers import Maxout
from gan_core.networks.mlp import MlpDiscriminator, MlpGenerator, maxout_gain
from gan_core.runtime.randomness import stream

GENERATORS = {"mlp": MlpGenerator, "dcgan": DcganGenerator}
DISCRIMINATORS = {"mlp": MlpDiscriminator, "dcgan": DcganDiscriminator}


def initialised(network: nn.Module, rng: Generator) -> nn.Module:
    """Return the network with weights drawn from `rng`: N(0, 0.02) for convolutions, He's for linear layers.

    He's keep the mean square of a layer's outputs at 1 after its rectifier, or after its maximum over pieces.
    """
    gains = {module.linear: maxout_gain(module.pieces) for module in network.modules() if isinstance(module, Maxout)}
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.normal_(module.weight, 0.0, 0.02, generator=rng)
        elif isinstance(module, nn.Linear):
            gain = gains.get(module, 0.5)
            nn.init.normal_(module.weight, 0.0, (gain * module.in_features) ** -0.5, generator=rng)
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear) and module.bias is not None:
            nn.init.zeros_(module.bias)
    return network


def build_generator(config: NetworkConfig, *, size: int, channels: int, seed: int) -> nn.Module:
    """Return a generator on the CPU, its weights drawn from `seed`.

    Args:
        config: family, latent space and widths.
        size: side of the images, 8 to 64 pixels, odd ones included.
        channels: 1 or 3.
        seed: of the initial weights, at least 0.

    Returns:
        A module that maps z (B, Z) to images (B, C, size, size) in [-1, 1].

    Raises:
        ValueError: the size or the number of channels is not supported.
    """
    _check_shape(size, channels)
    return initialised(GENERATORS[config.family](config, size, channels), stream(seed, "generator weights"))


def build_discriminator(config: NetworkConfig, *, size: int, channels: int, seed: int) -> nn.Module:
    """Return a discriminator on the CPU, its weights drawn from `seed`.

    Args:
        config: family and widths.
        size: side of the images, 8 to 64 pixels, odd ones included.
        channels: 1 or 3.
        seed: of the initial weights, at least 0.

    Returns:
        A module that maps images (B, C, size, size) and an optional `torch.Generator` to logits (B,).

    Raises:
        ValueError: the size or the number of channels is not supported.
    """
    _check_shape(size, channels)
    return initialised(DISCRIMINATORS[config.family](config, size, channels), stream(seed, "discriminator weights"))


def _check_shape(size: int, channels: int) -> None:
    if not SMALLEST_SIZE <= size <= LARGEST_SIZE:
        raise ValueError(f"image size must be between {SMALLEST_SIZE} and {LARGEST_SIZE} pixels, got {size}")
    if channels not in (1, 3):
        raise ValueError(f"channels must be 1 or 3, got {channels}")
