"""A part of a split, never its first images, which are of one class if they are sorted; and draws balanced by class."""

import torch
from torch import Generator, Tensor


def sample(size: int, count: int, rng: Generator, labels: Tensor | None = None) -> Tensor:
    """Return the indices of `count` of `size` images, drawn without replacement and stratified by class.

    Class k, with n_k images, gets count * n_k / size of the draws, rounded by largest remainders, so it is off by less
    than one image. Within a class, and without labels, every image is as likely as any other.

    Args:
        size: of the split.
        count: at least 0; from `size` on, the sample is the whole split.
        rng: on the CPU.
        labels: (size,) class indices on the CPU, if there are any.

    Returns:
        Indices (count,) on the CPU in the order of the draw, in which classes are mixed; of a whole split all in order.
    """
    if count >= size:
        return torch.arange(size)
    order = torch.randperm(size, generator=rng)
    if labels is None:
        return order[:count]
    _, classes, sizes = labels.unique(return_inverse=True, return_counts=True)
    by_class = classes[order].argsort(stable=True).split(sizes.tolist())
    quotas = _quotas(sizes, count, rng).tolist()
    drawn = torch.cat([places[:quota] for places, quota in zip(by_class, quotas, strict=True)])
    return order[drawn.sort().values]


def _quotas(sizes: Tensor, count: int, rng: Generator) -> Tensor:
    """Return how many images each class gives; equal remainders are ranked by lot, else low labels would always win."""
    shares, size = count * sizes, int(sizes.sum())
    quotas, remainders = shares // size, shares % size
    lot = torch.randperm(len(sizes), generator=rng)
    ranked = lot[remainders[lot].argsort(descending=True, stable=True)]
    quotas[ranked[: count - int(quotas.sum())]] += 1
    return quotas


class ByClass:
    """Draws images so that every class of labels (N,) is as likely as any other."""

    def __init__(self, labels: Tensor) -> None:
        self._order = labels.argsort(stable=True)
        _, self._sizes = labels.unique(return_counts=True)
        self._starts = self._sizes.cumsum(0) - self._sizes

    def draw(self, count: int, rng: Generator) -> Tensor:
        """Return indices (count,), with replacement: a class that has images, then one of its images, both uniform."""
        classes = torch.randint(len(self._sizes), (count,), generator=rng)
        share = torch.rand(count, generator=rng, dtype=torch.float64)
        return self._order[self._starts[classes] + (share * self._sizes[classes]).long()]
