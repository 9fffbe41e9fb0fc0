import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from gan_core.config import NetworkConfig
from gan_core.generation.latents import draw_z
from gan_core.networks import mlp
from gan_core.networks.build import build_discriminator, build_generator, initialised
from gan_core.networks.layers import Maxout, frozen_statistics
from gan_core.networks.mlp import MlpGenerator
from gan_core.runtime.randomness import stream
from tests.gan_core.examples import (
    CLASSES,
    DCGAN,
    MLP,
    NETWORKS,
    R3GAN,
    conditional,
    families,
    same_bits,
    snapshot,
)

POWERS_OF_TWO = ["r3gan", "sngan"]


def images(count: int, *, size: int = 8, channels: int = 1) -> Tensor:
    return torch.rand(count, channels, size, size, generator=stream(0, "test images")) * 2 - 1


@pytest.mark.parametrize("size", [8, 9, 15, 16, 28, 32, 33, 63, 64, 128, 255, 256])
@pytest.mark.parametrize(("channels", "z_distribution"), [(1, "normal"), (3, "uniform")])
@families
def test_shapes_and_ranges_at_every_size(network: NetworkConfig, z_distribution: Any, channels: int, size: int) -> None:
    network = replace(network, z_distribution=z_distribution)
    if size.bit_count() > 1 and network.family in POWERS_OF_TWO:
        with pytest.raises(ValueError, match=rf"{network.family} must be a power of two, got {size}$"):
            build_generator(network, size=size, channels=channels, seed=0)
        return
    generator = build_generator(network, size=size, channels=channels, seed=0)
    discriminator = build_discriminator(network, size=size, channels=channels, seed=0)
    fake = generator(draw_z(network, 3, stream(0, "z")))
    assert fake.shape == (3, channels, size, size)
    assert fake.abs().max() <= 1 or network.family == "r3gan"
    assert fake.std() > 1e-4
    logits = discriminator(fake)
    assert logits.shape == (3,)
    assert logits.isfinite().all()


@pytest.mark.parametrize("network", [network for network in NETWORKS if network != R3GAN])
def test_images_reach_both_ends_of_the_range_and_stay_inside(network: NetworkConfig) -> None:
    generator = build_generator(network, size=8, channels=1, seed=0)
    with torch.no_grad():
        for parameter in generator.parameters():
            parameter.mul_(100)
    fake = generator(torch.randn(16, network.z_dim, generator=stream(0, "z")))
    assert (fake.min().item(), fake.max().item()) == (-1.0, 1.0)


@pytest.mark.parametrize("network", [MLP, DCGAN, R3GAN])  # spectral normalisation takes the factor back
def test_logits_take_both_signs_and_exceed_any_probability(network: NetworkConfig) -> None:
    discriminator = build_discriminator(network, size=8, channels=1, seed=0)
    with torch.no_grad():
        for parameter in discriminator.parameters():
            parameter.mul_(100)
    logits = discriminator(images(32))
    assert logits.min() < -1
    assert logits.max() > 1


@pytest.mark.parametrize("build", [build_generator, build_discriminator])
@pytest.mark.parametrize(("size", "channels", "wrong"), [(7, 1, 7), (257, 3, 257), (0, 1, 0), (8, 2, 2), (64, 4, 4)])
@families
def test_what_is_not_supported_is_refused_by_its_value(
    network: NetworkConfig, size: int, channels: int, wrong: int, build: type[nn.Module]
) -> None:
    with pytest.raises(ValueError, match=rf"got {wrong}$"):
        build(network, size=size, channels=channels, seed=0)


@pytest.mark.parametrize("build", [build_generator, build_discriminator])
@families
def test_weights_come_from_the_seed_alone(network: NetworkConfig, build: type[nn.Module]) -> None:
    torch.manual_seed(1)
    first = snapshot(build(network, size=16, channels=3, seed=5))
    torch.manual_seed(2)
    again = snapshot(build(network, size=16, channels=3, seed=5))
    other = snapshot(build(network, size=16, channels=3, seed=6))
    assert same_bits(first, again)
    drawn = [name for name, tensor in first.items() if tensor.dim() > 1 and tensor.any()]
    assert drawn
    assert not any(torch.equal(first[name], other[name]) for name in drawn)


@pytest.mark.parametrize("build", [build_generator, build_discriminator])
@pytest.mark.parametrize("network", [MLP, DCGAN])
def test_initial_weights_have_the_scale_of_their_paper(network: NetworkConfig, build: type[nn.Module]) -> None:
    wide = replace(network, z_dim=64, generator_width=64, discriminator_width=64)
    built = build(wide, size=16, channels=3, seed=0)
    # The mean square of the largest of three standard normals is 1 + sqrt(3) / (2 pi).
    gains = {m.linear: 1 / (1 + 3**0.5 / (2 * math.pi)) for m in built.modules() if isinstance(m, Maxout)}
    for module in built.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            expected = (gains.get(module, 2) / module.in_features) ** 0.5 if isinstance(module, nn.Linear) else 0.02
            spread = (module.weight.square().mean() ** 0.5).item()
            assert spread == pytest.approx(expected, rel=5 / module.weight.numel() ** 0.5)
            assert module.bias is None or not module.bias.any()


@pytest.mark.parametrize(("pieces", "gain"), [(1, 1.0), (2, 1.0), (3, 1 + 3**0.5 / (2 * math.pi))])
def test_a_maxout_keeps_the_mean_square_of_what_it_is_fed(pieces: int, gain: float) -> None:
    layer = Maxout(400, 300, pieces)
    assert layer.gain() == pytest.approx(gain, rel=1e-9)
    initialised(layer, stream(0, "weights"))
    fed = torch.randn(500, 400, generator=stream(0, "fed"))
    assert layer(fed).square().mean().item() == pytest.approx(1, rel=0.03)


def test_the_2014_generator_ends_in_a_scaled_sigmoid() -> None:
    generator = build_generator(MLP, size=8, channels=1, seed=0)
    z = torch.randn(4, MLP.z_dim, generator=stream(0, "z"))
    a = dict(generator.named_children())["layers"](z)
    assert torch.allclose(generator(z), (2 * a.sigmoid() - 1).reshape(4, 1, 8, 8), atol=1e-6)


def test_the_convolutional_pair_has_the_parts_of_its_paper() -> None:
    """Radford et al. 2015, section 3; at 28 pixels the maps have sides 28, 14, 7 and 4."""
    kinds = {
        player: [type(module).__name__ for module in build(DCGAN, size=28, channels=1, seed=0).modules()][2:]
        for player, build in (("generator", build_generator), ("discriminator", build_discriminator))
    }
    normalised = ["BatchNorm", "ReLU", "ConvTranspose2d"]
    assert kinds["generator"] == ["Sequential", *normalised * 3]  # and tanh
    assert kinds["discriminator"] == ["Conv2d", "LeakyReLU", *["Conv2d", "BatchNorm", "LeakyReLU"] * 2, "Linear"]
    discriminator = build_discriminator(DCGAN, size=28, channels=1, seed=0)
    assert {module.negative_slope for module in discriminator.modules() if isinstance(module, nn.LeakyReLU)} == {0.2}
    widths = [module.out_channels for module in discriminator.modules() if isinstance(module, nn.Conv2d)]
    assert widths == [DCGAN.discriminator_width * factor for factor in (1, 2, 4)]


def test_a_discriminator_of_one_piece_is_affine_and_of_two_is_not() -> None:
    x, y = images(2)
    batch = torch.stack([x, y, x + y, torch.zeros_like(x)])
    excess = {}
    for pieces in (1, 2):
        network = replace(MLP, maxout_pieces=pieces)
        logits = build_discriminator(network, size=8, channels=1, seed=0)(batch)
        excess[pieces] = abs((logits[0] + logits[1] - logits[2] - logits[3]).item())
    assert excess[1] == pytest.approx(0, abs=1e-5)
    assert excess[2] > 0.01


def test_dropout_acts_only_when_it_is_given_randomness() -> None:
    discriminator = build_discriminator(MLP, size=8, channels=1, seed=0)
    batch = images(4)
    assert torch.equal(discriminator(batch), discriminator(batch))
    first, again = (discriminator(batch, stream(0, "mask", 1)) for _ in range(2))
    other = discriminator(batch, stream(0, "mask", 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert not torch.equal(first, discriminator(batch))
    without = build_discriminator(replace(MLP, dropout=0.0), size=8, channels=1, seed=0)
    assert torch.equal(without(batch, stream(0, "mask", 1)), discriminator(batch))


def test_dropout_acts_in_both_layers() -> None:
    discriminator = build_discriminator(replace(MLP, dropout=0.999), size=8, channels=1, seed=0)
    with torch.no_grad():
        for name, parameter in discriminator.named_parameters():
            if name.endswith("bias"):
                parameter.fill_(1)
    # With nearly every unit of the last layer dropped, only the last bias is left.
    logits = discriminator(images(64), stream(0, "mask"))
    assert (logits == 1).float().mean() > 0.9


@families
def test_logits_keep_the_order_of_images(network: NetworkConfig) -> None:
    discriminator = build_discriminator(network, size=16, channels=3, seed=0)
    batch = images(6, size=16, channels=3)
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    with frozen_statistics(discriminator):
        assert torch.allclose(discriminator(batch[order]), discriminator(batch)[order], atol=1e-5)


@families
def test_bfloat16_inside_rounds_neither_logits_nor_squashed_pixels(network: NetworkConfig) -> None:
    """A loss reads differences of logits whose offset nothing holds, and a rounded 1 has no slope under tanh."""
    generator, discriminator = (
        build(network, size=16, channels=3, seed=0) for build in (build_generator, build_discriminator)
    )
    with torch.autocast("cpu", torch.bfloat16):
        outputs = [discriminator(images(8, size=16, channels=3))]
        if network.family != "r3gan":
            outputs.append(generator(torch.randn(8, network.z_dim, generator=stream(0, "z"))))
    for output in outputs:
        assert output.dtype == torch.float32
        assert (output != output.bfloat16()).double().mean() > 0.5


@pytest.mark.parametrize("kind", ["generator", "discriminator"])
def test_frozen_statistics_change_the_record_and_nothing_else(kind: str) -> None:
    build, batch = {
        "generator": (build_generator, torch.rand(8, DCGAN.z_dim, generator=stream(0, "z"))),
        "discriminator": (build_discriminator, images(8, size=16)),
    }[kind]
    network = build(DCGAN, size=16, channels=1, seed=0)
    before = snapshot(network)
    with frozen_statistics(network):
        frozen = network(batch)
    assert same_bits(snapshot(network), before)
    recorded = network(batch)
    assert torch.equal(frozen, recorded)
    after = snapshot(network)
    moved = [name for name in before if not torch.equal(before[name], after[name])]
    expected = [name for name in before if name.endswith(("running_mean", "running_var", "num_batches_tracked"))]
    assert moved == expected
    assert moved


def test_statistics_are_recorded_again_after_an_error() -> None:
    generator = build_generator(DCGAN, size=8, channels=1, seed=0)

    def fail() -> None:
        with frozen_statistics(generator):
            generator(torch.zeros(2, DCGAN.z_dim + 1))

    with pytest.raises(RuntimeError):
        fail()
    norms = [module for module in generator.modules() if isinstance(module, nn.BatchNorm2d)]
    assert norms
    assert all(norm.track_running_stats for norm in norms)


def test_an_mlp_starts_around_the_mean_of_a_sample_of_many_images(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every second image is white, so a mean over images at equal distances would be white or black."""
    monkeypatch.setattr(mlp, "MEAN_OF", 300)
    generator = build_generator(replace(MLP, z_distribution="normal"), size=8, channels=1, seed=0)
    assert isinstance(generator, MlpGenerator)
    pixels = torch.tensor([0, 255], dtype=torch.uint8).repeat(300)[:, None, None, None].expand(-1, 1, 8, 8)
    generator.start_at(pixels, stream(0, "mean image"))
    outputs = generator.layers[-1]
    assert isinstance(outputs, nn.Linear)
    means = outputs.bias.sigmoid()
    assert torch.equal(means, means[:1].expand(64))
    assert means[0].item() == pytest.approx(0.5, abs=0.12)


def test_an_mlp_starts_around_the_mean_image() -> None:
    generator = build_generator(replace(MLP, z_distribution="normal"), size=8, channels=3, seed=0)
    assert isinstance(generator, MlpGenerator)
    pixels = torch.randint(256, (300, 3, 8, 8), generator=stream(0, "pixels"), dtype=torch.uint8)
    pixels = (pixels * torch.linspace(0, 1, 64).reshape(8, 8)).to(torch.uint8)
    pixels[:, 2, 7, 7] = 255
    generator.start_at(pixels, stream(0, "mean image"))
    outputs = generator.layers[-1]
    assert isinstance(outputs, nn.Linear)
    with torch.no_grad():
        outputs.weight.zero_()
        image = (generator(torch.randn(1, MLP.z_dim)) + 1) * 127.5
    # The first pixel is always black and the last one always white: half a grey level away from it.
    expected = pixels.double().mean(dim=0).clamp(0.5, 254.5)
    assert torch.allclose(image[0].double(), expected, atol=1e-3)


LABELS = torch.tensor([2, 0, 1, 1, 0, 2])
projected = pytest.mark.parametrize("network", [replace(MLP, conditional=True), replace(DCGAN, conditional=True)])
"""The families whose label is an embedding beside z and a projection beside the logit, from the start."""


@pytest.mark.parametrize(("size", "channels"), [(8, 1), (15, 3), (28, 1), (64, 3)])
@conditional
def test_conditional_pairs_read_each_images_own_label(network: NetworkConfig, size: int, channels: int) -> None:
    built: dict[str, Any] = {"size": size, "channels": channels, "classes": CLASSES, "seed": 0}
    if size.bit_count() > 1 and network.family in POWERS_OF_TWO:
        return
    generator, discriminator = build_generator(network, **built).eval(), build_discriminator(network, **built).eval()
    z, rng = draw_z(network, 6, stream(0, "z")), stream(0, "moved")
    with torch.no_grad():
        for parameter in generator.parameters():  # gains of a class start as those of all others
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=rng))
        fake = generator(z, LABELS)
        logits = discriminator(fake, None, LABELS)
        for label in range(CLASSES):
            alone = torch.full_like(LABELS, label)
            own = LABELS.eq(label)
            for whole, one in ((fake, generator(z, alone)), (logits, discriminator(fake, None, alone))):
                same: Tensor = (whole == one).reshape(6, -1).all(dim=1)
                assert same.tolist() == own.tolist()
    assert fake.shape == (6, channels, size, size)
    assert logits.shape == (6,)


@projected
def test_without_its_projection_a_conditional_discriminator_is_the_unconditional_one(network: NetworkConfig) -> None:
    """Both draw the same weights in the same order, and the label adds to the logit alone."""
    plain = build_discriminator(replace(network, conditional=False), size=16, channels=1, seed=0)
    labelled = build_discriminator(network, size=16, channels=1, classes=CLASSES, seed=0)
    batch = images(6, size=16)
    assert not torch.allclose(labelled(batch, None, LABELS), plain(batch))
    with torch.no_grad():
        labelled.get_parameter("projection.embed.weight").zero_()
    assert torch.equal(labelled(batch, None, LABELS), plain(batch))


@projected
def test_the_label_starts_as_large_as_z_and_projected_as_large_as_the_logit(network: NetworkConfig) -> None:
    wide = replace(network, z_dim=64, discriminator_width=64)
    generator = build_generator(wide, size=16, channels=1, classes=50, seed=0)
    discriminator = build_discriminator(wide, size=16, channels=1, classes=50, seed=0)
    assert generator.get_parameter("embed.weight").shape == (50, 64)
    assert generator.get_parameter("embed.weight").std().item() == pytest.approx(1, rel=0.05)
    projected, logit = (discriminator.get_parameter(f"{name}.weight") for name in ("projection.embed", "logit"))
    assert projected.shape == (50, logit.numel())
    assert projected.std().item() == pytest.approx((2 / logit.numel()) ** 0.5, rel=0.05)


@pytest.mark.parametrize("build", [build_generator, build_discriminator])
@pytest.mark.parametrize(("wanted", "classes"), [(True, 0), (False, 3)])
@families
def test_conditional_networks_need_classes_and_others_take_none(
    network: NetworkConfig, wanted: bool, classes: int, build: Any
) -> None:
    with pytest.raises(ValueError, match=f"conditional is {wanted}.* {classes}$"):
        build(replace(network, conditional=wanted), size=8, channels=1, classes=classes, seed=0)
