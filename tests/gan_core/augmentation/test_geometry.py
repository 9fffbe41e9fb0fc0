import math

import pytest
import torch
from torch import Tensor

from gan_core.augmentation.geometry import DRAWS, SYM6, _filters, drawn_geometry, normal, transformed

MANY = 20_000
CPU = torch.device("cpu")
NEVER, ALWAYS = torch.tensor(0.0, dtype=torch.float64), torch.tensor(1.0, dtype=torch.float64)


def uniform(count: int, seed: int = 0) -> Tensor:
    return torch.rand(count, DRAWS, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def smooth(side: int, count: int = 2, channels: int = 1) -> Tensor:
    """Return images of low frequency, which survive resampling."""
    rng = torch.Generator().manual_seed(3)
    axis = torch.arange(side, dtype=torch.float64) / side
    phases = torch.rand(count, channels, 2, 1, generator=rng, dtype=torch.float64) * 2 * math.pi
    waves = torch.cos(math.pi * 2 * axis + phases)
    return waves[:, :, 0, :, None] * waves[:, :, 1, None, :]


def matrix(a: float, b: float, c: float, d: float, x: float = 0.0, y: float = 0.0) -> Tensor:
    return torch.tensor([[[a, b, x], [c, d, y], [0, 0, 1]]], dtype=torch.float64)


def test_the_filter_is_sym6() -> None:
    """Even shifts are orthonormal and six moments of the high-pass filter vanish, which few filters of 12 taps have."""
    taps = torch.tensor(SYM6, dtype=torch.float64)
    assert len(taps) == 12
    for shift in range(6):
        product = (taps[: 12 - 2 * shift] * taps[2 * shift :]).sum()
        assert product.item() == pytest.approx(float(shift == 0), abs=1e-11)
    signs = torch.tensor([1.0, -1.0] * 6, dtype=torch.float64)
    for power in range(6):
        moment = (signs * taps * torch.arange(-5.5, 6.5, dtype=torch.float64) ** power).sum().abs()
        assert moment < 1e-7 * 6**power


def test_doubling_and_halving_is_the_identity_inside() -> None:
    double, halve, _ = _filters(16, torch.float64, CPU)
    whole = torch.zeros(42, 16, dtype=torch.float64)
    whole[6:36] = double  # what is interpolated at every doubled sample, without what lies outside
    back = halve @ whole
    assert torch.allclose(back[6:10], torch.eye(16, dtype=torch.float64)[6:10], rtol=0, atol=1e-10)


def test_without_probability_every_bit_stays() -> None:
    inverse = drawn_geometry(uniform(50).float(), torch.tensor(0.0), 32)
    assert torch.equal(inverse, torch.eye(3).expand(50, 3, 3))
    x = torch.randn(50, 3, 32, 32)
    assert torch.equal(transformed(x, inverse), x)


def test_only_images_that_draw_a_transform_change() -> None:
    inverse = drawn_geometry(uniform(200), torch.tensor(0.1, dtype=torch.float64), 16)
    x = smooth(16, 200)
    same = (transformed(x, inverse) == x).flatten(1).all(dim=1)
    # Of eight gates five have p and two 1 - sqrt(1 - p); half of the mirrors and a quarter of the turns are none.
    unmoved = (1 - 0.05) * (1 - 0.075) * 0.9**4 * 0.9
    assert same.double().mean().item() == pytest.approx(unmoved, abs=5 * (0.25 / 200) ** 0.5)
    assert torch.equal(same, (inverse == torch.eye(3, dtype=torch.float64)).flatten(1).all(dim=1))


@pytest.mark.parametrize(
    ("inverse", "expected"),
    [
        (matrix(-1, 0, 0, 1), lambda x: x.flip(-1)),
        (matrix(0, -1, 1, 0), lambda x: x.rot90(1, (2, 3))),
        (matrix(1, 0, 0, 1, 2 * 3 / 31), lambda x: x.roll(-3, 3)),
        (matrix(1, 0, 0, 1, 0, 2 * 2 / 31), lambda x: x.roll(-2, 2)),
    ],
    ids=["mirror", "quarter turn", "shift right to left", "shift up"],
)
def test_whole_pixels_move_where_the_matrix_says(inverse: Tensor, expected: "object") -> None:
    x = smooth(32)
    result = transformed(x, inverse.expand(2, -1, -1))
    assert callable(expected)
    inside = (slice(None), slice(None), slice(6, 26), slice(6, 26))
    assert torch.allclose(result[inside], expected(x)[inside], rtol=0, atol=0.002)


def test_half_a_pixel_is_interpolated() -> None:
    side = 32
    axis = torch.arange(side, dtype=torch.float64)
    wave = torch.cos(2 * math.pi * axis / 16)[None, None, None].expand(1, 1, side, side)
    shifted = torch.cos(2 * math.pi * (axis + 0.5) / 16)[None, None, None].expand(1, 1, side, side)
    result = transformed(wave, matrix(1, 0, 0, 1, 2 * 0.5 / (side - 1)))
    assert torch.allclose(result[..., 6:26], shifted[..., 6:26], rtol=0, atol=0.02)


def test_images_go_on_by_reflection() -> None:
    """Shifted by half of the side: the missing half is the mirror image about the last column."""
    side = 32
    x = smooth(side)
    result = transformed(x, matrix(1, 0, 0, 1, 2 * 16 / (side - 1)).expand(2, -1, -1))
    column = torch.arange(side) + 16
    reflected = torch.where(column < side, column, 2 * (side - 1) - column)
    assert torch.allclose(result[:, :, 8:24, :26], x[:, :, 8:24, reflected][..., :26], rtol=0, atol=0.15)


def test_each_transform_has_its_distribution() -> None:
    """With p = 1 the determinant is that of scale alone, its sign that of mirrors, and the angle is uniform."""
    side = 32
    inverse = drawn_geometry(uniform(MANY), ALWAYS, side)
    determinant = inverse[:, 0, 0] * inverse[:, 1, 1] - inverse[:, 0, 1] * inverse[:, 1, 0]
    tolerance = 5 / MANY**0.5
    assert (determinant < 0).double().mean().item() == pytest.approx(0.5, abs=tolerance)
    scale = determinant.abs().log2() / 2
    assert scale.mean().item() == pytest.approx(0, abs=0.2 * tolerance)
    assert scale.std().item() == pytest.approx(0.2, rel=tolerance)
    singular = torch.linalg.svdvals(inverse[:, :2, :2])
    ratio = (singular[:, 0] / singular[:, 1]).log2() / 2  # |N(0, 0.2)|
    assert ratio.mean().item() == pytest.approx(0.2 * (2 / math.pi) ** 0.5, rel=tolerance)
    angle = torch.atan2(inverse[:, 1, 0], inverse[:, 0, 0])
    assert torch.stack([angle.cos(), angle.sin()]).mean(dim=1).abs().max() < tolerance


def only(column: int, probability: float, side: int) -> Tensor:
    """Return the matrices of draws of which the gate in one column is always open and all others are closed."""
    draws = uniform(MANY)
    gates = [1, 3, 6, 8, 10, 12, 14, 17]
    draws[:, [gate for gate in gates if gate != column]] = 1 - 1e-9
    draws[:, column] = 0
    return drawn_geometry(draws, torch.tensor(probability, dtype=torch.float64), side)


def test_shifts_are_whole_pixels_within_an_eighth_and_fractions() -> None:
    whole = only(6, 0.5, 32)[:, :2, 2] * 15.5
    assert torch.allclose(whole, whole.round(), rtol=0, atol=1e-9)
    values, counts = whole.round().unique(return_counts=True)
    assert values.tolist() == list(range(-4, 5))
    shares = counts / (2 * MANY)  # rounding gives the outermost half of what the others have
    assert torch.allclose(shares, torch.tensor([1 / 16, *[1 / 8] * 7, 1 / 16]), rtol=0, atol=0.01)
    fraction = only(17, 0.5, 32)[:, :2, 2] * 15.5
    assert fraction.std().item() == pytest.approx(0.125 * 32, rel=0.03)
    assert fraction.mean().abs() < 0.125 * 32 * 5 / MANY**0.5


def test_quarter_turns_are_equally_frequent() -> None:
    turns = only(3, 0.5, 32)
    quarter = (torch.atan2(turns[:, 1, 0], turns[:, 0, 0]) / (math.pi / 2)).round().remainder(4)
    counts = torch.bincount(quarter.long(), minlength=4)
    assert ((counts - MANY / 4).abs() < 5 * (MANY / 4) ** 0.5).all()


def test_a_rotation_is_drawn_with_p_although_there_are_two() -> None:
    draws = uniform(MANY)
    draws[:, [1, 3, 6, 8, 12, 17]] = 1 - 1e-9
    inverse = drawn_geometry(draws, torch.tensor(0.3, dtype=torch.float64), 32)
    rotated = (inverse[:, 0, 1] != 0).double().mean().item()
    assert rotated == pytest.approx(0.3, abs=5 * (0.21 / MANY) ** 0.5)


def test_normal_numbers_are_normal_and_finite_everywhere() -> None:
    values = normal(torch.rand(200_000, generator=torch.Generator().manual_seed(0)))
    assert values.mean().item() == pytest.approx(0, abs=0.012)
    assert values.std().item() == pytest.approx(1, abs=0.01)
    assert values.pow(4).mean().item() == pytest.approx(3, abs=0.15)
    assert normal(torch.tensor([0.0, 1 - 2.0**-24])).isfinite().all()


@pytest.mark.parametrize("channels", [1, 3])
def test_resampling_can_be_differentiated_twice(channels: int) -> None:
    x = torch.randn(1, channels, 7, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(1)).requires_grad_()
    inverse = drawn_geometry(uniform(1, seed=4), ALWAYS, 7)
    assert torch.autograd.gradcheck(lambda x: transformed(x, inverse), x)
    assert torch.autograd.gradgradcheck(lambda x: transformed(x, inverse).tanh(), x)
