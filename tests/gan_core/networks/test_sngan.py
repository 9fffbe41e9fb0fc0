from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn.functional import interpolate

from gan_core.networks.build import build_discriminator, initialised
from gan_core.networks.layers import SpectralNorm, advance_spectral_norms
from gan_core.networks.sngan import ConditionalBatchNorm, SnganDiscriminator, SnganGenerator, _bilinear
from gan_core.runtime.randomness import stream
from tests.gan_core.examples import SNGAN, same_bits, snapshot

MIMICRY = replace(SNGAN, z_dim=128, generator_width=256, discriminator_width=128)


def parameters(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def convolution(inputs: int, outputs: int, kernel: int) -> int:
    return inputs * outputs * kernel**2 + outputs


def test_at_32_pixels_it_has_mimicrys_layers() -> None:
    biases = 3 * 256  # a normalisation takes them away, so they are left out
    up = convolution(256, 256, 3) * 2 + convolution(256, 256, 1) - biases + 4 * 256
    down = convolution(128, 128, 3) * 2
    expected = {
        "generator": 129 * 4096 + 3 * up + 2 * 256 + convolution(256, 3, 3),
        "discriminator": convolution(3, 128, 3)
        + convolution(128, 128, 3)
        + convolution(3, 128, 1)
        + 3 * down
        + convolution(128, 128, 1)
        + 129,
    }
    with torch.device("meta"):
        networks = SnganGenerator(MIMICRY, 32, 3), SnganDiscriminator(MIMICRY, 32, 3)
        assert [*map(parameters, networks)] == [*expected.values()]
    sides = []
    discriminator = build_discriminator(SNGAN, size=32, channels=3, seed=0)
    for block in discriminator.get_submodule("blocks"):  # type: ignore[attr-defined]  # a Sequential
        block.register_forward_hook(lambda _, __, maps: sides.append(maps.shape[-1]))
    discriminator(torch.zeros(1, 3, 32, 32))
    assert sides == [16, 8, 8, 8]


def test_power_iteration_finds_the_largest_singular_value() -> None:
    weight = torch.randn(6, 3, 2, 2, generator=stream(0, "weight"), dtype=torch.float64)
    norm = SpectralNorm(6).double()
    norm.draw(stream(0, "u"))
    first = norm(weight)
    for _ in range(200):
        norm.advance(weight)
    last = norm(weight)
    assert torch.linalg.matrix_norm(last.flatten(1), 2).item() == pytest.approx(1, rel=1e-9)
    assert torch.linalg.matrix_norm(first.flatten(1), 2) > 1 + 1e-3  # one iteration underestimates it


def test_the_gradient_holds_both_directions_constant() -> None:
    """D (W / sigma) / dW with sigma = u'Wv: Miyato et al. 2018, equation 12."""
    norm = SpectralNorm(4).double()
    norm.draw(stream(0, "u"))
    weight = torch.randn(4, 5, generator=stream(0, "weight"), dtype=torch.float64, requires_grad=True)
    for _ in range(500):
        norm.advance(weight)
    normalised = norm(weight)
    upstream = torch.randn(4, 5, generator=stream(0, "upstream"), dtype=torch.float64)
    (gradient,) = torch.autograd.grad((normalised * upstream).sum(), weight)
    left, values, right = torch.linalg.svd(weight.detach())
    direction = torch.outer(left[:, 0], right[0])
    expected = (upstream - (upstream * normalised.detach()).sum() * direction) / values[0]
    assert torch.allclose(gradient, expected, rtol=1e-9, atol=1e-9)


def test_all_passes_of_an_update_divide_by_the_same_values() -> None:
    discriminator = build_discriminator(SNGAN, size=8, channels=1, seed=0)
    images = torch.rand(3, 1, 8, 8, generator=stream(0, "images")) * 2 - 1
    before, logits = snapshot(discriminator), discriminator(images)
    assert torch.equal(discriminator(images), logits)
    assert same_bits(snapshot(discriminator), before)
    advance_spectral_norms(discriminator)
    assert not torch.equal(discriminator(images), logits)
    moved = [name for name, tensor in snapshot(discriminator).items() if not torch.equal(before[name], tensor)]
    assert moved
    assert all(name.endswith("norm.u") for name in moved)


def test_interpolation_is_bilinear_up_to_the_border() -> None:
    x = torch.randn(2, 3, 4, 8, generator=stream(0, "x"), dtype=torch.float64)
    assert torch.allclose(_bilinear(x), interpolate(x, scale_factor=2, mode="bilinear"), rtol=1e-12)


@pytest.mark.parametrize("kind", [SnganGenerator, SnganDiscriminator])
def test_initial_weights_are_xaviers(kind: type[SnganGenerator] | type[SnganDiscriminator]) -> None:
    network = initialised(kind(replace(SNGAN, generator_width=64, discriminator_width=64), 16, 3, 40), stream(0, "w"))
    for name, layer in network.named_modules():
        if isinstance(layer, nn.Conv2d | nn.Linear | nn.Embedding):
            factor = 2 if ".inner." in name else 1
            fans = layer.weight[0].numel() + layer.weight[:, 0].numel()
            assert layer.weight.square().mean().item() == pytest.approx(
                2 * factor / fans, rel=6 / layer.weight.numel() ** 0.5
            )
            assert layer.weight.abs().max() <= (6 * factor / fans) ** 0.5


def test_a_conditional_normalisation_has_a_gain_and_a_shift_for_each_class() -> None:
    norm = ConditionalBatchNorm(2, 3).double()
    x = torch.randn(6, 2, 4, 4, generator=stream(0, "x"), dtype=torch.float64)
    labels = torch.tensor([0, 1, 2, 0, 1, 2])
    plain = norm(x, labels)
    assert torch.allclose(plain.mean(dim=(0, 2, 3)), torch.zeros(2, dtype=torch.float64), atol=1e-12)
    with torch.no_grad():
        norm.gain[1], norm.shift[2] = 3, 5
    for image, expected in zip(norm(x, labels), [plain[0], 3 * plain[1], plain[2] + 5], strict=False):
        assert torch.allclose(image, expected)


def test_labels_steer_both_networks() -> None:
    generator = initialised(SnganGenerator(SNGAN, 8, 3, 4), stream(0, "g"))
    discriminator = initialised(SnganDiscriminator(SNGAN, 8, 3, 4), stream(0, "d"))
    labels = torch.tensor([0, 1, 2, 3])
    logits = discriminator(torch.ones(4, 3, 8, 8), None, labels)
    assert logits.shape == (4,)
    assert len(logits.unique()) == 4
    z = torch.randn(4, SNGAN.z_dim, generator=stream(0, "z"))
    before = generator.eval()(z, labels)
    with torch.no_grad():
        generator.get_parameter("blocks.0.norms.0.shift")[2] += 1
    changed = (generator(z, labels) - before).abs().amax(dim=(1, 2, 3))
    assert (changed > 0).tolist() == [False, False, True, False]
