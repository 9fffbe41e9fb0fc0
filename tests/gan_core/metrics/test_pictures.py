import pytest
import torch
from torch import Tensor

from gan_core.metrics.pictures import spacing, spectral_distance
from gan_core.runtime.randomness import stream
from tests.gan_core.examples import digits


def points(count: int, seed: int = 0) -> Tensor:
    return torch.randn(count, 8, generator=stream(seed, "points"))


def test_spacing_is_one_among_equals_and_none_among_repeated_images() -> None:
    assert spacing(points(400), points(400, seed=1)) == pytest.approx(1, abs=0.1)
    assert spacing(3 * points(400, seed=1), points(400, seed=1)) == pytest.approx(3, rel=1e-6)
    dozen = points(12).repeat(34, 1)[:400]
    assert dozen.var() > 0.8  # as various as all
    assert spacing(dozen, points(400)) == 0
    nearly = dozen + 0.05 * points(400, seed=2)
    assert spacing(nearly, points(400)) < 0.15
    with pytest.raises(ValueError, match="12 and 400"):
        spacing(points(12), points(400))


def test_the_nearest_image_is_another_one() -> None:
    line = torch.tensor([[0.0], [1.0], [3.0], [7.0]])  # distances 1, 1, 2, 4; the lower median is 1
    assert spacing(line, 2 * line) == 0.5


def checkerboards(images: Tensor, contrast: int) -> Tensor:
    side = torch.arange(images.shape[-1])
    board = ((side[:, None] + side) % 2) * 2 - 1
    return (images.int() + contrast * board).clamp(0, 255).to(torch.uint8)


def test_checkerboards_and_noise_are_far_and_other_real_images_near() -> None:
    images, _ = digits()
    real, other = images[:400], images[400:800]
    assert spectral_distance(other, real) < 0.06
    boards = [spectral_distance(checkerboards(other, contrast), real) for contrast in (0, 10, 30, 60)]
    assert boards == sorted(boards)
    assert boards[-1] > 0.15
    noise = torch.randint(256, real.shape, generator=stream(0, "noise"), dtype=torch.uint8)
    assert spectral_distance(noise, real) > 0.15
    assert spectral_distance(real, real) == 0


def test_a_wave_has_all_its_power_in_its_own_band() -> None:
    side = torch.arange(16)
    waves = [(127 + 100 * torch.cos(2 * torch.pi * k * side / 16)).round().to(torch.uint8) for k in (2, 5)]
    first, second = (wave.expand(1, 1, 16, 16) for wave in waves)
    assert spectral_distance(first, second) == pytest.approx(1, abs=1e-3)
    assert spectral_distance(first, first.transpose(2, 3)) == pytest.approx(0, abs=1e-12)
    assert spectral_distance(first // 2, first) == pytest.approx(0, abs=1e-2)
