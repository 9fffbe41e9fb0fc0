import pytest
import torch
from torch import Tensor

from gan_core.augmentation.diffaugment import TRANSFORMS, color, cutout, translation

MANY = 20_000


def uniform(count: int, columns: int, seed: int = 0) -> Tensor:
    return torch.rand(count, columns, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def images(count: int, channels: int = 3, side: int = 8, seed: int = 1) -> Tensor:
    rng = torch.Generator().manual_seed(seed)
    return torch.rand(count, channels, side, side, generator=rng, dtype=torch.float64) * 2 - 1


@pytest.mark.parametrize("channels", [1, 3])
def test_color_is_brightness_then_saturation_then_contrast(channels: int) -> None:
    x, u = images(5, channels), uniform(5, 3)
    for image, (b, s, c), result in zip(x, u.tolist(), color(x, u), strict=True):
        bright = image + (b - 0.5)
        grey = bright.mean(dim=0)
        saturated = grey + 2 * s * (bright - grey)
        expected = bright.mean() + (c + 0.5) * (saturated - bright.mean())
        assert torch.allclose(result, expected, rtol=0, atol=1e-12)


def test_one_channel_has_no_saturation() -> None:
    x, u = images(5, channels=1), uniform(5, 3)
    assert torch.equal(color(x, u), color(x, torch.stack([u[:, 0], uniform(5, 1, seed=9)[:, 0], u[:, 2]], dim=1)))


def test_draws_of_one_half_leave_the_colours() -> None:
    x = images(4)
    assert torch.allclose(color(x, torch.full((4, 3), 0.5, dtype=torch.float64)), x, rtol=0, atol=1e-14)


@pytest.mark.parametrize(("side", "largest"), [(8, 1), (12, 2), (28, 4), (32, 4)])
def test_shifts_are_uniform_on_whole_pixels_within_an_eighth(side: int, largest: int) -> None:
    dot = torch.zeros(1, 1, side, side, dtype=torch.float64)
    dot[0, 0, side // 2, side // 2] = 1
    moved = translation(dot.expand(MANY, -1, -1, -1), uniform(MANY, 2))
    assert torch.equal(moved.sum(dim=(1, 2, 3)), torch.ones(MANY, dtype=torch.float64))
    for axis in (2, 3):
        shifts = moved.sum(dim=5 - axis)[:, 0].argmax(dim=1) - side // 2
        values, counts = shifts.unique(return_counts=True)
        assert values.tolist() == list(range(-largest, largest + 1))
        expected = MANY / (2 * largest + 1)
        assert ((counts - expected).abs() < 5 * expected**0.5).all()
    first, second = (moved.sum(dim=5 - axis)[:, 0].argmax(dim=1).double() for axis in (2, 3))
    assert torch.corrcoef(torch.stack([first, second]))[0, 1].abs() < 5 / MANY**0.5


def test_what_is_shifted_keeps_its_bits_and_zeros_come_in() -> None:
    x = images(64)
    result = translation(x, uniform(64, 2))
    for image, moved in zip(x, result, strict=True):
        matches = []
        for down in (-1, 0, 1):
            for right in (-1, 0, 1):
                padded = torch.nn.functional.pad(image, (1, 1, 1, 1))
                matches.append(torch.equal(moved, padded[:, 1 + down : 9 + down, 1 + right : 9 + right]))
        assert sum(matches) == 1


@pytest.mark.parametrize(("side", "square"), [(8, 4), (9, 5), (32, 16)])
def test_a_square_of_half_the_side_is_cut_around_any_pixel(side: int, square: int) -> None:
    cut = cutout(torch.ones(MANY, 1, side, side), uniform(MANY, 2).float())
    assert set(cut.unique().tolist()) == {0.0, 1.0}
    rows, columns = (cut == 0).any(dim=3)[:, 0], (cut == 0).any(dim=2)[:, 0]
    assert torch.equal((cut == 0)[:, 0], rows[:, :, None] & columns[:, None, :])
    starts = side + 1 - square % 2
    for line in (rows, columns):
        expected = torch.zeros(side, dtype=torch.float64)
        for centre in range(starts):
            for place in range(centre - square // 2, centre - square // 2 + square):
                if 0 <= place < side:
                    expected[place] += 1 / starts
        share = line.double().mean(dim=0)
        assert ((share - expected).abs() < 5 * (0.25 / MANY) ** 0.5).all()


@pytest.mark.parametrize("name", TRANSFORMS)
@pytest.mark.parametrize("channels", [1, 3])
def test_transforms_are_linear_or_affine_and_differentiable_twice(name: str, channels: int) -> None:
    transform, count = TRANSFORMS[name]
    x, u = images(3, channels, side=6).requires_grad_(), uniform(3, count)
    assert torch.autograd.gradcheck(lambda x: transform(x, u), x)
    assert torch.autograd.gradgradcheck(lambda x: transform(x, u).tanh(), x)


def test_memory_format_and_bits_do_not_depend_on_each_other() -> None:
    x = images(4, side=16).float()
    last = x.to(memory_format=torch.channels_last)
    for transform, count in TRANSFORMS.values():
        u = uniform(4, count).float()
        assert torch.allclose(transform(x, u), transform(last, u), rtol=0, atol=1e-6)
