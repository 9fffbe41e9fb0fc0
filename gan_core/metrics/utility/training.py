"""What a classifier learns from real images, from generated ones, and from both.

The classification accuracy score of Ravuri and Vinyals 2019 (arXiv:1905.10887): a classifier is trained on generated
images and tested on real ones. Here it stands beside the same classifier trained on real images, on shifted ones, which
is the augmentation that costs nothing, and on mixtures with generated ones.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

import torch
from torch import Generator, Tensor

from gan_core.config import ExtractorConfig
from gan_core.metrics.classifier import Classifier, accuracy, train_classifier
from gan_core.metrics.utility.gain import WAYS
from gan_core.runtime.randomness import stream

ROUNDS, ROUND, BATCH = 250, 256, 64
"""Rounds of a training, images that are drawn anew for each, and images of an optimiser step: 1,000 steps in all."""
STEPS = ROUNDS * ROUND // BATCH
SHIFT = 0.125
"""Largest shift, relative to the side of an image."""

Draw = Callable[[Tensor, Generator], Tensor]
"""Returns generated images (B, C, H, W) uint8 of the classes of labels (B,), drawn by a generator on the CPU."""


class Labelled(NamedTuple):
    """Images (N, C, H, W) uint8, on the CPU and perhaps mapped from a file, and their labels (N,) on the CPU."""

    images: Tensor
    labels: Tensor


def new_classifiers(images: Tensor, classes: int, device: torch.device) -> dict[str, Classifier]:
    """Return a classifier of such images (N, C, H, W) for each of `WAYS`."""
    _, channels, size, _ = images.shape
    made = {way: Classifier(size=size, channels=channels, classes=classes).to(device) for way in WAYS}
    return {way: classifier.to(memory_format=torch.channels_last) for way, classifier in made.items()}


def train_on_each(
    classifiers: Mapping[str, Classifier], real: Labelled, generated: Draw, *, seed: int, mirror: bool
) -> Iterator[int]:
    """Train a classifier on each of `WAYS`, side by side; all are given as many images, in as many optimiser steps.

    No way can win by training longer, and those of one seed begin with the same weights and meet the same real images
    in the same order, so their accuracies are paired. Round by round real images are drawn with replacement; generated
    ones are of the same classes and always new, for a generator can make any number.

    Args:
        classifiers: changed in place, their weights first drawn anew from the seed.
        real: training images.
        generated: makes images.
        seed: of weights, of what is drawn and of its order.
        mirror: also reverse shifted images from left to right, each with probability 1/2.

    Yields:
        The number of each of `ROUNDS` rounds, from 1, after it.
    """
    config = ExtractorConfig("classifier", BATCH, ROUNDS, 1e-3, seed, None, "0" * 64)
    device = next(classifiers[WAYS[0]].parameters()).device
    shown = {way: torch.empty(ROUND, *real.images.shape[1:], dtype=torch.uint8) for way in WAYS}
    labels = torch.empty(ROUND, dtype=torch.int64, device=device)
    trainings = [train_classifier(config, classifiers[way], shown[way], labels) for way in WAYS]
    for number in range(1, ROUNDS + 1):  # an epoch of each training, whose images are then replaced
        chosen = torch.randint(len(real.labels), (ROUND,), generator=stream(seed, "utility: real images", number))
        labels.copy_(real.labels[chosen])
        plain = real.images[chosen]
        moved = shifted(plain, stream(seed, "utility: shifts", number), mirror=mirror)
        made = generated(real.labels[chosen], stream(seed, "utility: z", number))
        for way, images in _by_way(plain, moved, made).items():
            shown[way].copy_(images)
        for training in trainings:
            next(training)
        yield number


def _by_way(real: Tensor, moved: Tensor, made: Tensor) -> dict[str, Tensor]:
    """Return what each way is trained on in a round, images of the same labels in the same order."""
    mixed = [torch.cat([images[: ROUND // 2], made[ROUND // 2 :]]) for images in (real, moved)]
    return dict(zip(WAYS, (real, moved, made, *mixed), strict=True))


def shifted(images: Tensor, rng: Generator, *, mirror: bool) -> Tensor:
    """Return images, each shifted along both axes by whole pixels; what moves in repeats the border.

    Shifts are uniform on the integers from -t to t, t being `SHIFT` of the side, rounded.

    Args:
        images: (B, C, H, H), of any type.
        rng: on the CPU.
        mirror: also reverse images from left to right, each with probability 1/2.

    Returns:
        Images of the same shape.
    """
    count, side = len(images), images.shape[-1]
    largest = int(SHIFT * side + 0.5)
    shifts = torch.randint(-largest, largest + 1, (2, count, 1), generator=rng)
    down, right = (torch.arange(side) + shifts).clamp(0, side - 1)
    if mirror:
        right = torch.where(torch.rand(count, 1, generator=rng) < 0.5, right, right.flip(1))
    moved = images[torch.arange(count)[:, None, None], :, down[:, :, None], right[:, None, :]]
    return moved.permute(0, 3, 1, 2)


def accuracies(classifiers: Mapping[str, Classifier], test: Labelled) -> dict[str, float]:
    """Return the share of real test images, in [0, 1], whose class each classifier names."""
    labels = test.labels.to(next(classifiers[WAYS[0]].parameters()).device)
    return {way: accuracy(classifier, test.images, labels, ROUND) for way, classifier in classifiers.items()}
