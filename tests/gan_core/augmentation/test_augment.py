from dataclasses import replace
from typing import Any

import pytest
import torch

from gan_core.augmentation.augment import NONE, augmented, draws_of
from gan_core.augmentation.diffaugment import TRANSFORMS
from gan_core.config import AdaConfig, AugmentationConfig, DiffAugmentConfig

ADA = AdaConfig("ada", 0.5, target=0.6, geometry=1.0, color=0.5, cutout=1.0)
POLICY = DiffAugmentConfig("diffaugment", color=True, translation=True, cutout=True)
kinds = pytest.mark.parametrize("config", [POLICY, ADA], ids=["diffaugment", "ada"])
HALF = torch.tensor(0.5)


def images(count: int = 6, channels: int = 3, side: int = 16) -> torch.Tensor:
    return torch.randn(count, channels, side, side, generator=torch.Generator().manual_seed(0))


def draws(config: AugmentationConfig, count: int = 6) -> torch.Tensor:
    return torch.rand(count, draws_of(config), generator=torch.Generator().manual_seed(1))


def test_without_augmentation_images_are_the_same_object() -> None:
    x = images()
    assert augmented(x, draws(NONE), NONE, HALF) is x


def test_a_policy_applies_its_transforms_in_the_order_of_the_paper() -> None:
    config = replace(POLICY, translation=False)
    x, u = images(), draws(config)
    (color, count), (cutout, _) = TRANSFORMS["color"], TRANSFORMS["cutout"]
    assert torch.equal(augmented(x, u, config, HALF), cutout(color(x, u[:, :count]), u[:, count:]))


@pytest.mark.parametrize("channels", [1, 3])
def test_with_probability_0_every_bit_stays(channels: int) -> None:
    x = images(channels=channels)
    assert torch.equal(augmented(x, draws(ADA), ADA, torch.tensor(0.0)), x)


@pytest.mark.parametrize("name", ["geometry", "color", "cutout"])
def test_a_group_without_strength_changes_nothing(name: str) -> None:
    off: dict[str, Any] = {"geometry": 0.0, "color": 0.0, "cutout": 0.0}
    x = images(count=40)
    assert torch.equal(augmented(x, draws(ADA, 40), replace(ADA, **off), HALF), x)
    alone = augmented(x, draws(ADA, 40), replace(ADA, **(off | {name: 1.0})), HALF)
    assert not torch.equal(alone, x)


def test_cutout_is_drawn_with_its_probability() -> None:
    config = replace(ADA, geometry=0.0, color=0.0, cutout=0.5)
    cut = augmented(torch.ones(4000, 1, 8, 8), draws(config, 4000), config, HALF)
    assert (cut == 0).flatten(1).any(dim=1).float().mean().item() == pytest.approx(0.25, abs=0.035)


@kinds
def test_each_image_is_transformed_by_its_own_row(config: AugmentationConfig) -> None:
    """So ranks and parts of a batch see what the whole batch would."""
    x, u = images(), draws(config)
    whole = augmented(x, u, config, HALF)
    rows = [augmented(x[i : i + 1], u[i : i + 1], config, HALF) for i in range(len(x))]
    assert torch.allclose(torch.cat(rows), whole, rtol=0, atol=1e-5)
    assert not torch.allclose(augmented(x[:1].expand_as(x), u, config, HALF)[0], augmented(x, u, config, HALF)[1])


@kinds
def test_bfloat16_of_the_networks_does_not_round_images(config: AugmentationConfig) -> None:
    x, u = images(), draws(config)
    with torch.autocast("cpu", torch.bfloat16):
        inside = augmented(x, u, config, HALF)
    assert torch.equal(inside, augmented(x, u, config, HALF))


@kinds
@pytest.mark.parametrize("channels", [1, 3])
def test_all_of_it_can_be_differentiated_twice(config: AugmentationConfig, channels: int) -> None:
    x = images(1, channels, side=6).double().requires_grad_()
    u = draws(config, 1).double()
    assert torch.autograd.gradcheck(lambda x: augmented(x, u, config, HALF.double()), x)
    assert torch.autograd.gradgradcheck(lambda x: augmented(x, u, config, HALF.double()).tanh(), x)
