from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn.functional import leaky_relu

from gan_core.generation.generate import generate
from gan_core.networks.build import build_discriminator, build_generator, initialised
from gan_core.networks.r3gan import R3ganBlock, R3ganDiscriminator, R3ganGenerator
from gan_core.runtime.randomness import stream
from tests.gan_core.examples import R3GAN

PUBLISHED = replace(R3GAN, z_dim=64, generator_width=768, discriminator_width=768, blocks=2)


def parameters(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


@pytest.mark.parametrize(
    ("size", "classes", "generator", "discriminator"), [(32, 10, 20.8, 21.3), (256, 0, 23.06, 23.01)]
)
def test_as_many_parameters_as_published(size: int, classes: int, generator: float, discriminator: float) -> None:
    """CIFAR-10 with labels, and FFHQ-256."""
    with torch.device("meta"):
        counts = [parameters(kind(PUBLISHED, size, 3, classes)) for kind in (R3ganGenerator, R3ganDiscriminator)]
    digits = 1 if classes else 2
    assert [round(count / 1e6, digits) for count in counts] == [generator, discriminator]


def test_before_training_a_block_is_the_identity_bit_for_bit() -> None:
    for build in (build_generator, build_discriminator):
        network = build(replace(R3GAN, blocks=2), size=8, channels=3, seed=0)
        blocks = [module for module in network.modules() if isinstance(module, R3ganBlock)]
        assert len(blocks) == 4
        for block in blocks:
            x = torch.randn(2, 8, 4, 4, generator=stream(0, "x"))
            assert torch.equal(block(x), x)


def test_a_block_is_its_formula() -> None:
    block = R3ganBlock(16).double()
    for parameter in block.parameters():
        nn.init.normal_(parameter, generator=stream(0, "weights"))
    x = torch.randn(2, 16, 4, 4, generator=stream(0, "x"), dtype=torch.float64)

    def activated(maps: torch.Tensor, layer: nn.Conv2d) -> torch.Tensor:
        assert layer.bias is not None
        return leaky_relu(maps + layer.bias[:, None, None], 0.2)

    inner = activated(nn.functional.conv2d(x, block.widen.weight), block.widen)
    inner = activated(nn.functional.conv2d(inner, block.mix.weight, padding=1, groups=2), block.mix)
    assert inner.shape[1] == 32
    assert torch.allclose(block(x), x + nn.functional.conv2d(inner, block.narrow.weight), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("classes", [0, 10])
@pytest.mark.parametrize("kind", [R3ganGenerator, R3ganDiscriminator])
def test_initial_weights_have_the_spread_of_the_paper(
    kind: type[R3ganGenerator] | type[R3ganDiscriminator], classes: int
) -> None:
    """At 8 pixels there are two levels, so L = 2 * 4 blocks."""
    network = initialised(
        kind(replace(PUBLISHED, generator_width=64, discriminator_width=64, blocks=4), 8, 3, classes), stream(0, "w")
    )
    gain = (2 / 1.04) ** 0.5 * 8**-0.25
    expected = {}
    for name, layer in network.named_modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            fan_in = layer.weight[0].numel()
            expected[name] = {"widen": gain, "mix": gain, "narrow": 0.0}.get(name.split(".")[-1], 1.0) * fan_in**-0.5
            assert layer.bias is None or not layer.bias.any()
            if name == "embedding" and kind is R3ganDiscriminator:
                expected[name] *= 64**-0.5
            spread = layer.weight.square().mean().sqrt().item()
            assert spread == pytest.approx(expected[name], rel=4 / layer.weight.numel() ** 0.5)
    assert ("embedding" in expected) == (classes > 0)


def test_labels_steer_both_networks_and_are_asked_for() -> None:
    conditional = replace(R3GAN, conditional=True)
    generator = initialised(R3ganGenerator(conditional, 8, 3, 4), stream(0, "g"))
    discriminator = initialised(R3ganDiscriminator(conditional, 8, 3, 4), stream(0, "d"))
    labels = torch.tensor([0, 1, 2, 3])
    z = torch.randn(1, R3GAN.z_dim, generator=stream(0, "z")).expand(4, -1)
    images = generator(z, labels)
    assert len(images.unique(dim=0)) == 4
    logits = discriminator(images[:1].expand(4, -1, -1, -1), None, labels)
    assert logits.shape == (4,)
    assert len(logits.unique()) == 4
    with pytest.raises(ValueError, match="4 classes"):
        generator(z)


def test_without_a_tanh_pixels_stay_in_their_range() -> None:
    generator = build_generator(R3GAN, size=8, channels=1, seed=0)
    with torch.no_grad():
        generator.get_parameter("basis").mul_(100)
    z = torch.randn(16, R3GAN.z_dim, generator=stream(0, "z"))
    images = generator(z)
    assert images.abs().max() > 2
    pixels = generate(generator, z)
    assert torch.equal(pixels == 255, (images + 1) * 127.5 > 254.5)
    assert torch.equal(pixels == 0, (images + 1) * 127.5 <= 0.5)


def test_the_lowest_level_is_computed_in_float32() -> None:
    """All but 4x4 in bfloat16, as the authors have it."""
    kinds: dict[int, torch.dtype] = {}
    for network, given in (
        (build_generator(R3GAN, size=16, channels=3, seed=0), torch.randn(2, R3GAN.z_dim)),
        (build_discriminator(R3GAN, size=16, channels=3, seed=0), torch.randn(2, 3, 16, 16)),
    ):
        for block in network.modules():
            if isinstance(block, R3ganBlock):
                block.register_forward_hook(lambda _, __, output: kinds.update({output.shape[-1]: output.dtype}))
        with torch.autocast("cpu", torch.bfloat16):
            network(given)
        assert kinds == {4: torch.float32, 8: torch.bfloat16, 16: torch.bfloat16}
        kinds.clear()
