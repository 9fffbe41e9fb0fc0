from dataclasses import replace

import pytest
import torch

from gan_core.augmentation.adaptive import IMAGES, is_adaptive, next_probability, overfitting
from gan_core.augmentation.augment import NONE
from gan_core.config import AdaConfig

ADAPTIVE = AdaConfig("ada", "adaptive", target=0.6, geometry=1.0, color=0.5, cutout=1.0)


def test_what_is_steered() -> None:
    assert is_adaptive(ADAPTIVE)
    assert not is_adaptive(replace(ADAPTIVE, probability=0.3))
    assert not is_adaptive(NONE)


def test_overfitting_is_where_unseen_images_lie_between_training_and_generated_ones() -> None:
    real, fake = torch.tensor([3.0, 5.0]), torch.tensor([-1.0, 1.0])
    for unseen, expected in ((4.0, 0.0), (2.0, 0.5), (0.0, 1.0)):
        for shift in (0.0, 7.0):
            logits = {"real_logits": real + shift, "unseen_logits": torch.tensor([unseen + shift])}
            assert overfitting(**logits, fake_logits=fake + shift).item() == pytest.approx(expected, abs=1e-6)
    assert overfitting(real_logits=real, unseen_logits=fake, fake_logits=real).item() == 0


@pytest.mark.parametrize(("r", "moved"), [(0.7, 1), (0.5, -1), (0.6, 0)])
def test_the_probability_moves_by_the_images_towards_the_target(r: float, moved: int) -> None:
    before = torch.tensor(0.5)
    after = next_probability(before, torch.tensor(r), target=torch.tensor(0.6).item(), images=256)
    assert (after - before).item() == pytest.approx(moved * 256 / 500_000, abs=1e-7)


def test_the_probability_stays_one() -> None:
    for before, r, after in ((0.0001, 0.0, 0.0), (0.9999, 1.0, 1.0)):
        assert next_probability(torch.tensor(before), torch.tensor(r), target=0.6, images=IMAGES).item() == after
