import pytest
import torch
from sklearn.datasets import load_sample_images
from torch import Tensor

from gan_core.augmentation.augment import alone, augmented, draws_of
from gan_core.config import AugmentationConfig
from gan_core.metrics.features import efficientnet_extractor, extract
from gan_core.metrics.pictures import leaked_shares, spacing, spectral_distance
from gan_core.runtime.pixels import to_pixels, to_unit_range
from gan_core.runtime.randomness import stream
from tests.gan_core.examples import CPU, POLICY, digits, efficientnet_weights


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


def crops(count: int, seed: int) -> Tensor:
    """Return pieces of two photographs, (count, 3, 32, 32)."""
    photographs = [torch.tensor(photograph[::3, ::3]) for photograph in load_sample_images().images]
    rng, pieces = stream(seed, "crops"), []
    for index in range(count):
        photograph = photographs[index % 2]
        y, x = (int(torch.randint(side - 31, (), generator=rng)) for side in photograph.shape[:2])
        pieces.append(photograph[y : y + 32, x : x + 32].permute(2, 0, 1))
    return torch.stack(pieces)


def test_images_that_leak_a_transform_are_named_by_their_share_and_no_others() -> None:
    """Other real images stand in for generated ones, a share of them as the transform leaves them."""
    extractor = efficientnet_extractor(efficientnet_weights(), CPU)

    def of(images: Tensor) -> Tensor:
        return extract(extractor, images, device=CPU, batch_size=50).features

    real, others = crops(150, seed=0), crops(150, seed=1)
    policy = alone(POLICY)
    features = {name: of(transformed(real, transform)) for name, transform in policy.items()}
    theirs, noise = of(real), 30 * torch.randn(others.shape, generator=stream(0, "noise"))
    ragged = (others + noise).round().clamp(0, 255).to(torch.uint8)
    for images, expected in (
        (others, {"cutout": 0.0, "translation": 0.0}),
        (_some(others, transformed(others, policy["cutout"], seed=1), 0.6), {"cutout": 0.6, "translation": 0.0}),
        (_some(others, transformed(others, policy["translation"], seed=1), 0.6), {"cutout": 0.0, "translation": 0.6}),
    ):
        shares = leaked_shares(of(images), theirs, features)
        assert list(shares) == ["color", "translation", "cutout"]
        for name, share in expected.items():
            assert shares[name] == pytest.approx(share, abs=0.2), (name, expected)
    assert leaked_shares(of(ragged), theirs, features)["cutout"] < 0.35


def _some(images: Tensor, other: Tensor, share: float) -> Tensor:
    return torch.where(torch.arange(len(images))[:, None, None, None] < share * len(images), other, images)


def test_shares_are_those_of_the_mixture() -> None:
    real, leaks = points(500), {"a": points(500, seed=1) + 3, "b": points(500, seed=2) * 2 - 1}
    mixed = torch.cat([real[:200], leaks["a"][200:400], leaks["b"][400:500]])
    shares = leaked_shares(mixed, real, leaks)
    assert shares["a"] == pytest.approx(0.4, abs=0.1)
    assert shares["b"] == pytest.approx(0.2, abs=0.1)


def test_without_augmentation_nothing_leaks() -> None:
    assert leaked_shares(points(9), points(9), {}) == {}


def transformed(images: Tensor, config: AugmentationConfig, seed: int = 0) -> Tensor:
    draws = torch.rand(len(images), draws_of(config), generator=stream(seed, "test draws"))
    return to_pixels(augmented(to_unit_range(images), draws, config, torch.tensor(1.0)))
