"""Scores of each class, against the training images of that class."""

import torch
from torch import Tensor

from gan_core.config import FEWEST_SCORED
from gan_core.metrics.features import Features
from gan_core.metrics.neighbours import manifold_scores, radii
from gan_core.metrics.scores import Reference, fid
from gan_core.runtime.randomness import stream
from gan_core.runtime.sampling import sample

MOST = 5000
"""Training images of a class, at most, from which its precision is measured: a sample of more."""


def class_scores(images: Features, labels: Tensor, reference: Reference) -> list[dict[str, float]]:
    """Return the scores of each class of labelled images against the training images of that class.

    Args:
        images: of N images, generated or real.
        labels: (N,) int64, the classes that were asked for or are known, on the CPU.
        reference: of labelled training images.

    Returns:
        For each class, in label order: `images`, their number; `precision`, if there are `FEWEST_SCORED` of them and of
        training images; and `fid`, if there are twice as many as features: of fewer it is mostly bias.
    """
    assert reference.labels is not None
    return [
        _scores(images.features[labels == label], reference.features[reference.labels == label])
        for label in range(reference.classes)
    ]


def _scores(ours: Tensor, theirs: Tensor) -> dict[str, float]:
    values = {"images": float(len(ours))}
    if min(len(ours), len(theirs)) >= FEWEST_SCORED:
        chosen = theirs[sample(len(theirs), MOST, stream(0, "precision of a class")).to(theirs.device)]
        values["precision"] = manifold_scores(ours.to(chosen.device), chosen, radii(chosen))[0]["precision"]
    if min(len(ours), len(theirs)) >= 2 * ours.shape[1]:
        values["fid"] = fid(ours, Reference(theirs, torch.empty(0), None, 0))
    return values
