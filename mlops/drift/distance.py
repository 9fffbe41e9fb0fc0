"""How far new images lie from former ones in feature space, beside what chance alone makes between former ones."""

from dataclasses import dataclass

import torch
from torch import Tensor

from gan_core.metrics.scores import DRAWS_SEED, Reference, mind
from gan_core.runtime.randomness import stream

DRAWS = 10
MOST = 2000
"""Images in each of two sets that are compared; more move MIND by less than its draws do."""


@dataclass(frozen=True)
class Drift:
    """MIND between sets of `images` images, one value a draw: of former and new ones, and of two sets of former ones.

    Without drift both have one distribution, for the sets are as large, and disjoint, in either case.
    """

    images: int
    between: tuple[float, ...]
    by_chance: tuple[float, ...]

    @property
    def mean(self) -> float:
        """The mean over draws of the distance between former and new images."""
        return sum(self.between) / len(self.between)

    @property
    def exceeds_chance(self) -> bool:
        """Whether this mean is above the distance of two sets of former images in every draw."""
        return self.mean > max(self.by_chance)


def drift(former: Tensor, new: Tensor, same: Tensor) -> Drift:
    """Return the distance between former and new images, and that between halves of the former ones.

    A new set may hold most of the former images. So in each draw the n new images are drawn first, and the n former
    ones from those that are not among them: both are simple random samples, and disjoint like two halves.

    Args:
        former: features (N, F) of the former images, N at least 4.
        new: features (M, F) of the new ones by the same extractor, M at least 2.
        same: (M,) the index of the former image that a new one is, -1 if it is none of them.

    Returns:
        Distances of n = min(N / 2, M, `MOST`) images, `DRAWS` times.
    """
    count = min(len(former) // 2, len(new), MOST)
    between, by_chance = list[float](), list[float]()
    for draw in range(DRAWS):
        rng = stream(DRAWS_SEED, "drift", draw)
        chosen = torch.randperm(len(new), generator=rng)[:count]
        order = torch.randperm(len(former), generator=rng)
        others = order[~torch.isin(order, same[chosen])][:count]
        between.append(_distance(new[chosen], former[others]))
        by_chance.append(_distance(former[order[:count]], former[order[count : 2 * count]]))
    return Drift(count, tuple(between), tuple(by_chance))


def _distance(first: Tensor, second: Tensor) -> float:
    return mind(first, Reference(second, second.new_empty(0, 2), None, 0))
