"""The families of networks, and both networks of a family with weights drawn from a seed.

A family is one file with a generator and a discriminator, a configuration in `gan_core.config`, and a line in
`FAMILIES`. Images are (B, C, H, W) in [-1, 1] with H = W between 8 and 256 and C of 1 or 3; logits are (B,).
"""

from collections.abc import Callable
from typing import NamedTuple, Protocol, runtime_checkable

from torch import Generator, Tensor, nn

from gan_core.config import DcganConfig, MlpConfig, NetworkConfig, R3ganConfig, SnganConfig, check_size
from gan_core.networks.dcgan import DcganDiscriminator, DcganGenerator
from gan_core.networks.layers import Maxout
from gan_core.networks.mlp import MlpDiscriminator, MlpGenerator
from gan_core.networks.r3gan import R3ganDiscriminator, R3ganGenerator
from gan_core.networks.sngan import SnganDiscriminator, SnganGenerator
from gan_core.runtime.randomness import stream


class Family(NamedTuple):
    """What makes both networks of (config, size, channels, classes); `convolutional` ones gain by bfloat16.

    A generator is called with z, a discriminator with images and an optional `torch.Generator`; if there are classes,
    then with labels as well.
    """

    generator: Callable[..., nn.Module]
    discriminator: Callable[..., nn.Module]
    convolutional: bool


FAMILIES = {
    MlpConfig: Family(MlpGenerator, MlpDiscriminator, convolutional=False),
    DcganConfig: Family(DcganGenerator, DcganDiscriminator, convolutional=True),
    R3ganConfig: Family(R3ganGenerator, R3ganDiscriminator, convolutional=True),
    SnganConfig: Family(SnganGenerator, SnganDiscriminator, convolutional=True),
}
"""By the class of the configuration."""


@runtime_checkable
class StartsAtImages(Protocol):
    """A generator whose initial weights depend on the training images too."""

    def start_at(self, images: Tensor, rng: Generator) -> None:
        """Set initial weights by the training images, (N, C, H, W) uint8 on any device, of many by a sample."""


@runtime_checkable
class DrawsWeights(Protocol):
    """A network that draws its own initial weights, because its family's differ from those of `initialised`."""

    def draw_weights(self, rng: Generator) -> None:
        """Draw all weights from `rng`, whatever they were."""


def initialised(network: nn.Module, rng: Generator) -> nn.Module:
    """Return the network with weights drawn from `rng`: its own, if it draws them.

    Else they are N(0, 0.02) for convolutions and He's for linear layers.

    Embeddings are N(0, 1), as the latents beside which they stand.
    He's keep the mean square of a layer's outputs at 1 after its rectifier, or after its maximum over pieces.
    """
    if isinstance(network, DrawsWeights):
        network.draw_weights(rng)
        return network
    gains = {module.linear: module.gain() for module in network.modules() if isinstance(module, Maxout)}
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.normal_(module.weight, 0.0, 0.02, generator=rng)
        elif isinstance(module, nn.Linear):
            gain = gains.get(module, 0.5)
            nn.init.normal_(module.weight, 0.0, (gain * module.in_features) ** -0.5, generator=rng)
        elif isinstance(module, nn.Embedding):
            nn.init.normal_(module.weight, generator=rng)
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear) and module.bias is not None:
            nn.init.zeros_(module.bias)
    return network


def build_generator(config: NetworkConfig, *, size: int, channels: int, seed: int, classes: int = 0) -> nn.Module:
    """Return a generator on the CPU, its weights drawn from `seed`.

    Args:
        config: family, latent space and widths.
        size: side of the images, 8 to 256 pixels: powers of two, and others if the family has them.
        channels: 1 or 3.
        seed: of the initial weights, at least 0.
        classes: K, of a conditional generator; 0 for one without labels.

    Returns:
        A module that maps z (B, Z), and labels (B,) in 0..K - 1 if there are classes, to images (B, C, size, size) in
        [-1, 1].

    Raises:
        ValueError: the size or the number of channels is not supported, or `conditional` is set without classes.
    """
    _check(config, size, channels, classes)
    generator = FAMILIES[type(config)].generator(config, size, channels, classes)
    return initialised(generator, stream(seed, "generator weights"))


def build_discriminator(config: NetworkConfig, *, size: int, channels: int, seed: int, classes: int = 0) -> nn.Module:
    """Return a discriminator, built as a generator is, to logits (B,).

    It maps images, an optional `torch.Generator`, and labels if there are classes.
    """
    _check(config, size, channels, classes)
    discriminator = FAMILIES[type(config)].discriminator(config, size, channels, classes)
    return initialised(discriminator, stream(seed, "discriminator weights"))


def _check(config: NetworkConfig, size: int, channels: int, classes: int) -> None:
    if config.conditional != (classes > 0):
        raise ValueError(f"conditional is {config.conditional}, but the number of classes is {classes}")
    check_size(config, size)
    if channels not in (1, 3):
        raise ValueError(f"channels must be 1 or 3, got {channels}")
