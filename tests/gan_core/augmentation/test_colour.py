import math

import pytest
import torch
from torch import Tensor

from gan_core.augmentation.colour import DRAWS, recoloured
from gan_core.augmentation.geometry import normal

MANY = 20_000
ALWAYS = torch.tensor(1.0, dtype=torch.float64)
VALUES, GATES = (0, 2, 4, 6, 8), (1, 3, 5, 7, 9)


def uniform(count: int, seed: int = 0) -> Tensor:
    return torch.rand(count, DRAWS, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def images(count: int, channels: int = 3) -> Tensor:
    rng = torch.Generator().manual_seed(2)
    return torch.rand(count, channels, 4, 4, generator=rng, dtype=torch.float64) * 2 - 1


def one_after_the_other(image: Tensor, draws: Tensor) -> Tensor:
    """Apply the five transforms to an image (3, H, H), each as Karras et al. 2020 define it."""
    brightness, contrast, flip, hue, saturation = draws[list(VALUES)].tolist()
    grey = torch.full((3, 1), 3**-0.5, dtype=torch.float64)
    luma, unit = grey @ grey.T, torch.eye(3, dtype=torch.float64)
    angle = 2 * math.pi * hue
    turn = torch.linalg.matrix_exp(angle * torch.linalg.cross(unit, grey.T.expand(3, 3)))
    pixels = image.flatten(1) + 0.2 * normal(torch.tensor(brightness, dtype=torch.float64))
    pixels = pixels * 2 ** (0.5 * normal(torch.tensor(contrast, dtype=torch.float64)))
    pixels = (unit - 2 * luma * int(2 * flip)) @ pixels
    pixels = turn @ pixels
    chroma = 2 ** normal(torch.tensor(saturation, dtype=torch.float64))
    result: Tensor = (luma + (unit - luma) * chroma) @ pixels
    return result.view_as(image)


def test_the_matrix_is_the_product_of_the_five() -> None:
    x, u = images(20), uniform(20)
    for image, draws, result in zip(x, u, recoloured(x, u, ALWAYS), strict=True):
        assert torch.allclose(result, one_after_the_other(image, draws), rtol=0, atol=1e-10)


def test_a_turn_of_the_hue_by_a_third_exchanges_the_channels() -> None:
    u = torch.full((1, DRAWS), 1 - 1e-9, dtype=torch.float64)
    u[:, 6], u[:, 7] = 1 / 3, 0
    x = images(1)
    result = recoloured(x, u, torch.tensor(0.5, dtype=torch.float64))
    assert torch.allclose(result, x[:, [2, 0, 1]], atol=1e-10) or torch.allclose(result, x[:, [1, 2, 0]], atol=1e-10)


def test_one_channel_has_brightness_contrast_and_luma_alone() -> None:
    """What happens to it is what happens to three equal channels."""
    x, u = images(20, channels=1), uniform(20)
    assert torch.allclose(
        recoloured(x, u, ALWAYS).expand(-1, 3, -1, -1), recoloured(x.expand(-1, 3, -1, -1), u, ALWAYS)
    )


@pytest.mark.parametrize("channels", [1, 3])
def test_without_probability_every_bit_stays(channels: int) -> None:
    x = torch.randn(30, channels, 8, 8)
    assert torch.equal(recoloured(x, uniform(30).float(), torch.tensor(0.0)), x)


@pytest.mark.parametrize(
    ("gate", "mean", "std"), [(1, 0.0, 0.2), (3, 0.0, 0.5), (5, 0.5, 0.5), (9, 0.0, 1.0)], ids=["b", "c", "flip", "s"]
)
def test_each_has_its_distribution(gate: int, mean: float, std: float) -> None:
    u = uniform(MANY)
    u[:, [other for other in GATES if other != gate]] = 1 - 1e-9
    u[:, gate] = 0
    half = torch.tensor(0.5, dtype=torch.float64)
    if gate == 9:  # the chroma of red
        red = recoloured(
            torch.tensor([1.0, 0, 0], dtype=torch.float64).view(1, 3, 1, 1).expand(MANY, -1, -1, -1), u, half
        )
        drawn = (red[:, 0] - red[:, 1]).flatten().log2()
    else:
        grey = recoloured(torch.full((MANY, 3, 1, 1), 0.25, dtype=torch.float64), u, half)[:, 0].flatten()
        drawn = {1: grey - 0.25, 3: (4 * grey.abs()).log2(), 5: (1 - 4 * grey) / 2}[gate]
    assert drawn.mean().item() == pytest.approx(mean, abs=5 * std / MANY**0.5)
    assert drawn.std().item() == pytest.approx(std, rel=0.03)


def test_gates_open_with_the_probability() -> None:
    u = uniform(MANY)
    x = images(1).expand(MANY, -1, -1, -1)
    changed = (recoloured(x, u, torch.tensor(0.2, dtype=torch.float64)) != x).flatten(1).any(dim=1)
    expected = 1 - 0.8**4 * 0.9  # half of the luma flips are none
    assert changed.double().mean().item() == pytest.approx(expected, abs=5 * (0.25 / MANY) ** 0.5)


@pytest.mark.parametrize("channels", [1, 3])
def test_it_can_be_differentiated_twice(channels: int) -> None:
    x, u = images(3, channels).requires_grad_(), uniform(3)
    assert torch.autograd.gradcheck(lambda x: recoloured(x, u, ALWAYS), x)
    assert torch.autograd.gradgradcheck(lambda x: recoloured(x, u, ALWAYS).tanh(), x)
