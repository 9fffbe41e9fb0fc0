import math

import torch
from torch import Tensor, nn

from benchmarks.modes import SIZE, modes, stacked


class ByBrightness(nn.Module):
    """Takes an image of one grey level for the digit of that number."""

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        levels = ((images[:, 0, 0, 0] + 1) * 127.5).round().long()
        return images, torch.nn.functional.one_hot(levels, 10).float()


GREYS = torch.arange(10, dtype=torch.uint8)[:, None, None, None].expand(-1, 1, SIZE, SIZE)


def test_modes_are_triples_of_digits() -> None:
    triples = torch.cartesian_prod(*[torch.arange(10)] * 3)
    images = GREYS[triples, 0]
    assert modes(ByBrightness(), images) == ("1000", "0.00")  # type: ignore[arg-type]
    some = images[torch.tensor([7, 7, 123, 990])]
    entropy = -(0.5 * math.log(0.5) + 0.5 * math.log(0.25))
    assert modes(ByBrightness(), some) == ("3", f"{math.log(1000) - entropy:.2f}")  # type: ignore[arg-type]


def test_stacked_images_have_three_digits_of_their_own() -> None:
    images = stacked(GREYS, 5000, torch.Generator().manual_seed(0))
    assert images.shape == (5000, 3, SIZE, SIZE)
    digits = images[:, :, 0, 0]
    assert (torch.bincount(digits.flatten().long(), minlength=10) - 1500).abs().max() < 6 * 1350**0.5
    correlation = torch.corrcoef(digits.double().T)
    assert (correlation - torch.eye(3)).abs().max() < 0.1
