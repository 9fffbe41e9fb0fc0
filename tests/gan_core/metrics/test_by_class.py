import pytest
import torch

from gan_core.metrics.by_class import class_scores
from gan_core.metrics.features import Features
from gan_core.metrics.scores import Reference, fid
from gan_core.runtime.randomness import stream

LABELS = torch.arange(3).repeat(40)


def normal(mean: torch.Tensor, seed: int) -> torch.Tensor:
    """Return features (120, 4) around means that depend on the class."""
    return mean[LABELS, None] + torch.randn(120, 4, generator=stream(seed, "features"))


def test_each_class_is_measured_against_its_own_training_images() -> None:
    """Class 1 is where class 2 should be and the reverse: over all images nothing is amiss."""
    reference = Reference.of(normal(torch.tensor([0.0, 20.0, 40.0]), 0), LABELS, 3)
    swapped = normal(torch.tensor([0.0, 40.0, 20.0]), 1)
    rows = class_scores(Features(swapped, torch.empty(120, 0)), LABELS, reference)
    assert [row["images"] for row in rows] == [40, 40, 40]
    assert rows[0]["precision"] > 0.8
    assert [row["precision"] for row in rows[1:]] == [0, 0]
    assert rows[0]["fid"] < 2
    assert [row["fid"] for row in rows[1:]] == pytest.approx([4 * 400] * 2, rel=0.15)
    assert fid(swapped, reference) < 2


def test_a_class_of_few_images_has_no_score() -> None:
    reference = Reference.of(normal(torch.zeros(3), 0), LABELS, 3)
    kept = torch.cat([torch.arange(0, 120, 3)[:3], torch.arange(1, 120, 3)[:7]])
    rows = class_scores(Features(normal(torch.zeros(3), 1)[kept], torch.empty(10, 0)), LABELS[kept], reference)
    assert [set(row) for row in rows] == [{"images"}, {"images", "precision"}, {"images"}]
