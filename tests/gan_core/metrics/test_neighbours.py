import math

import numpy as np
import pytest
import torch
from torch import Tensor
from torch_fidelity.metric_prc import prc_features_to_metric

from gan_core.metrics import neighbours
from gan_core.metrics.neighbours import (
    COPY_NEIGHBOURS,
    Neighbours,
    class_balance,
    class_coverage,
    class_shares,
    closeness,
    manifold_scores,
    near_copies,
    radii,
)
from gan_core.runtime.randomness import stream
from gan_core.runtime.sampling import sample


def points(count: int, dimension: int = 6, seed: int = 0) -> Tensor:
    return torch.randn(count, dimension, generator=stream(seed, "test points"))


def measured(generated: Tensor, reference: Tensor) -> tuple[float, float, Neighbours]:
    values, near = manifold_scores(generated, reference, radii(reference))
    return values["precision"], values["recall"], near


@pytest.mark.parametrize("at_once", [2_500_000, 1_000])
@pytest.mark.parametrize("shift", [0.0, 0.7, 3.0])
def test_precision_and_recall_are_those_of_torch_fidelity(
    shift: float, at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(neighbours, "DISTANCES_AT_ONCE", at_once)
    generated, reference = points(300, seed=1) * 0.8 + shift, points(400, seed=2)
    precision, recall, _ = measured(generated, reference)
    theirs = prc_features_to_metric(generated, reference, prc_batch_size=10000, verbose=False)
    assert (precision, recall) == (theirs["precision"], theirs["recall"])
    assert (0.2 < precision <= 1) == (shift < 1)


@pytest.mark.parametrize("at_once", [2_500_000, 1_000])
def test_density_and_coverage_are_their_formulas(at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Naeem et al. 2020, equations 3 and 4, written out as loops in float64."""
    monkeypatch.setattr(neighbours, "DISTANCES_AT_ONCE", at_once)
    generated, reference = points(60, seed=1) * 0.8 + 0.7, points(90, seed=2)
    values, _ = manifold_scores(generated, reference, radii(reference))
    real, fake = reference.double().tolist(), generated.double().tolist()
    balls = [sorted(math.dist(x, other) for other in real)[5] for x in real]  # the nearest is x itself
    inside = [[math.dist(x, y) <= ball for y in fake] for x, ball in zip(real, balls, strict=True)]
    assert values["density"] == pytest.approx(sum(map(sum, inside)) / (5 * len(fake)), rel=1e-12)
    assert values["coverage"] == pytest.approx(sum(map(any, inside)) / len(real), rel=1e-6)
    assert 0.2 < values["coverage"] < 0.9


def test_real_images_have_a_density_of_one_and_few_images_cover_little() -> None:
    reference, others = points(2000), points(2000, seed=1)
    real, few = (manifold_scores(part, reference, radii(reference))[0] for part in (others, others[:20].repeat(50, 1)))
    assert real["density"] == pytest.approx(1, abs=0.05)
    assert few["density"] == pytest.approx(1, abs=0.5)
    assert few["coverage"] < 20 * 12 / 2000 < real["coverage"]


def test_fewer_images_than_the_fifth_neighbour_are_all_within_its_ball() -> None:
    assert torch.equal(*radii(points(4)).T)


@pytest.mark.parametrize("at_once", [2_500_000, 1_000])
def test_distances_have_the_bits_of_torch(at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neighbours, "DISTANCES_AT_ONCE", at_once)
    generated, reference = points(130, 64, seed=1).relu(), points(90, 64, seed=2).relu()
    _, _, near = measured(generated, reference)
    expected = torch.cdist(generated, reference).topk(COPY_NEIGHBOURS, largest=False)
    assert torch.equal(near.distances, expected.values)
    third, fifth = (torch.cdist(reference, reference).kthvalue(k + 1).values for k in (3, 5))
    assert torch.equal(radii(reference), torch.stack([third, fifth], dim=1))


def test_a_few_images_over_and_over_are_precise_and_recall_nothing() -> None:
    reference = points(400)
    precision, recall, _ = measured(reference[:12].repeat(30, 1), reference)
    assert precision == 1
    assert recall <= 12 / 400


def test_real_images_on_one_side_alone_are_half_recalled() -> None:
    reference = torch.cat([points(200) - 20, points(200, seed=1) + 20])
    precision, recall, _ = measured(points(200, seed=2) - 20, reference)
    assert precision > 0.7
    assert 0.3 < recall < 0.5


def test_neighbours_are_the_nearest_in_order() -> None:
    generated, reference = points(30, seed=1), points(200, seed=2)
    _, _, near = measured(generated, reference)
    distances = (generated[:, None].double() - reference[None].double()).norm(dim=2)
    ordered = distances.sort(dim=1)
    assert torch.equal(near.indices, ordered.indices[:, :COPY_NEIGHBOURS])
    assert torch.allclose(near.distances.double(), ordered.values[:, :COPY_NEIGHBOURS], atol=1e-4)


def test_fewer_references_than_neighbours_are_all_neighbours() -> None:
    _, _, near = measured(points(10, seed=1), points(20, seed=2))
    assert near.indices.sort(dim=1).values.tolist() == [list(range(20))] * 10


def test_copies_are_counted_and_new_images_are_not() -> None:
    reference, held_out = points(2000, 16, seed=1), points(500, 16, seed=2)
    mixed = torch.cat([reference[:100] + 0.01 * points(100, 16, seed=3), held_out[:400]])
    base = near_copies(measured(held_out, reference)[2])
    assert base < 0.02
    assert near_copies(measured(mixed, reference)[2]) == pytest.approx(0.2 + 0.8 * base, abs=0.02)


def test_a_copy_of_an_image_that_training_has_twice_is_a_copy() -> None:
    reference = torch.cat([points(500), points(500)[:50]])
    _, _, near = measured(reference[:50] + 1e-4, reference)
    assert near_copies(near) == 1
    assert closeness(Neighbours(torch.zeros(1, 50), torch.zeros(1, 50, dtype=torch.long))).item() == 0


def test_closeness_has_no_unit() -> None:
    generated, reference = points(40, seed=1), points(300, seed=2)
    here, larger = (closeness(measured(scale * generated, scale * reference)[2]) for scale in (1, 1000))
    assert torch.allclose(here, larger, rtol=1e-3)
    assert here.max() <= 1


def test_the_class_is_that_of_the_nearest_training_image() -> None:
    centres = torch.eye(4) * 100
    labels = torch.arange(4).repeat(20)
    reference = centres[labels] + points(80, 4)
    wanted = torch.tensor([0, 0, 0, 2, 2, 3])
    _, _, near = measured(centres[wanted] + points(6, 4, seed=1), reference)
    assert class_shares(near, labels, 5).tolist() == pytest.approx([3 / 6, 0, 2 / 6, 1 / 6, 0])


def test_coverage_counts_classes_that_are_not_lost() -> None:
    expected = torch.tensor([0.4, 0.4, 0.2, 0.0], dtype=torch.float64)  # the last class is not in the training set
    assert class_coverage(expected, expected) == 1
    assert class_coverage(torch.tensor([1.0, 0, 0, 0], dtype=torch.float64), expected) == pytest.approx(1 / 3)
    assert class_coverage(torch.tensor([0.92, 0.05, 0.03, 0], dtype=torch.float64), expected) == 1
    assert class_coverage(torch.tensor([0.97, 0.03, 0.0, 0], dtype=torch.float64), expected) == pytest.approx(1 / 3)


def test_balance_is_one_less_total_variation() -> None:
    rng = np.random.default_rng(0)
    for first, second in rng.dirichlet(np.ones(7), (20, 2)):
        variation = np.abs(first - second).sum() / 2
        assert class_balance(torch.tensor(first), torch.tensor(second)) == pytest.approx(1 - variation, rel=1e-12)


def test_precision_and_recall_are_of_the_manifold_and_neighbours_of_all_references() -> None:
    generated, reference = points(50, seed=1), points(300, seed=2)
    manifold = sample(300, 100, stream(0, "test manifold"))
    some = radii(reference[manifold]), manifold
    values, near = manifold_scores(generated, reference, *some)
    theirs = prc_features_to_metric(generated, reference[manifold], prc_batch_size=10000, verbose=False)
    assert (values["precision"], values["recall"]) == (theirs["precision"], theirs["recall"])
    assert values == manifold_scores(generated, reference[manifold], some[0])[0]
    assert torch.equal(near.indices, measured(generated, reference)[2].indices)
