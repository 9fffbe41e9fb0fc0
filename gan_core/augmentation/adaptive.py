"""The probability of an augmentation, steered by how much a discriminator overfits."""

import torch
from torch import Tensor

from gan_core.config import AdaConfig, AugmentationConfig

EVERY = 4
"""Steps between two changes."""
IMAGES = 500_000
"""Real images in which the probability can rise from 0 to 1."""


def is_adaptive(config: AugmentationConfig) -> bool:
    """Return whether the probability is steered."""
    return isinstance(config, AdaConfig) and config.probability == "adaptive"


def overfitting(*, real_logits: Tensor, unseen_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """Return r_v = (E D(x) - E D(u)) / (E D(x) - E D(G(z))): Karras et al. 2020, arXiv:2006.06676, equation 1.

    The share of the gap between logits of training images x and of generated ones by which unseen real images u fall
    back: 0 for a discriminator that generalises, 1 for one that takes unseen images for generated; 0 also if there is
    no gap. A constant added to all logits changes nothing, so it means the same under relativistic losses.
    """
    gap = real_logits.mean() - fake_logits.mean()
    return torch.where(gap == 0, 0.0, (real_logits.mean() - unseen_logits.mean()) / gap)


def next_probability(probability: Tensor, overfitting: Tensor, *, target: float, images: int) -> Tensor:
    """Return p + sign(r - target) images / 500,000 within [0, 1], after as many more real images: ibid., section 3."""
    return (probability + (overfitting - target).sign() * (images / IMAGES)).clamp(0, 1)
