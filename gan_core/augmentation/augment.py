"""An image as a discriminator in training is shown it, by the kind of augmentation."""

from collections.abc import Callable
from dataclasses import replace
from itertools import accumulate, pairwise

import torch
from torch import Tensor

from gan_core.augmentation import colour, diffaugment, geometry
from gan_core.config import AdaConfig, AugmentationConfig, DiffAugmentConfig, NoAugmentation

NONE = NoAugmentation(kind="none")
CUTOUT_DRAWS = 3


def draws_of(config: AugmentationConfig) -> int:
    """Return how many uniform numbers an image is transformed by."""
    match config:
        case DiffAugmentConfig():
            return sum(count for _, count in _policy(config))
        case AdaConfig():
            return geometry.DRAWS + colour.DRAWS + CUTOUT_DRAWS
        case NoAugmentation():
            return 0


def alone(config: AugmentationConfig) -> dict[str, AugmentationConfig]:
    """Return each group of transforms that a configuration has, by its name, as an augmentation of its own."""
    match config:
        case DiffAugmentConfig():
            chosen = [name for name in diffaugment.TRANSFORMS if getattr(config, name)]
            return {one: replace(config, **{n: n == one for n in chosen}) for one in chosen}  # type: ignore[arg-type]
        case AdaConfig():
            nothing = replace(config, probability=1.0, geometry=0.0, color=0.0, cutout=0.0)
            groups = ("geometry", "color", "cutout")
            return {name: replace(nothing, **{name: 1.0}) for name in groups if getattr(config, name)}  # type: ignore[arg-type]
        case NoAugmentation():
            return {}


def augmented(images: Tensor, draws: Tensor, config: AugmentationConfig, probability: Tensor) -> Tensor:
    """Return T(x) for images x, in float32 also where networks compute in bfloat16.

    Args:
        images: (B, C, H, H) in [-1, 1]; of kind `none` of any shape, and returned as they are.
        draws: (B, N), uniform in [0, 1), N being `draws_of(config)`; row i decides how image i is transformed.
        config: which transforms.
        probability: scalar in [0, 1], of each transform of kind `ada`; on the device of the images.

    Returns:
        Images of the same shape, not clamped. They can be differentiated twice with respect to `images`.
    """
    if isinstance(config, NoAugmentation):
        return images
    with torch.autocast(images.device.type, enabled=False):
        if isinstance(config, AdaConfig):
            return _ada(images, draws, config, probability)
        return _diffaugment(images, draws, config)


def _policy(config: DiffAugmentConfig) -> list[tuple[Callable[[Tensor, Tensor], Tensor], int]]:
    """Return the chosen transforms in the order of Zhao et al. 2020, with their numbers of draws."""
    return [row for name, row in diffaugment.TRANSFORMS.items() if getattr(config, name)]


def _diffaugment(images: Tensor, draws: Tensor, config: DiffAugmentConfig) -> Tensor:
    policy = _policy(config)
    ends = accumulate((count for _, count in policy), initial=0)
    for (transform, _), (first, last) in zip(policy, pairwise(ends), strict=True):
        images = transform(images, draws[:, first:last])
    return images


def _ada(images: Tensor, draws: Tensor, config: AdaConfig, probability: Tensor) -> Tensor:
    """Return images transformed by the pipe of Karras et al. 2020, arXiv:2006.06676, each transform by chance."""
    geometric, coloured, cut = draws.split([geometry.DRAWS, colour.DRAWS, CUTOUT_DRAWS], dim=1)
    if config.geometry:
        inverse = geometry.drawn_geometry(geometric, config.geometry * probability, images.shape[-1])
        images = geometry.transformed(images, inverse)
    if config.color:
        images = colour.recoloured(images, coloured, config.color * probability)
    if config.cutout:
        gate = cut[:, 0] < config.cutout * probability
        images = torch.where(gate[:, None, None, None], diffaugment.cutout(images, cut[:, 1:]), images)
    return images
