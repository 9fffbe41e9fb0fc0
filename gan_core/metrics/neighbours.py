"""Scores from nearest neighbours in feature space: precision and recall, density and coverage, near-copies, classes.

Precision and recall equal those of torch-fidelity, but without a matrix of all distances in memory (10 GB for 50,000
images), and the few nearest are selected without sorting the rest, which is fifteen times faster.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

NEIGHBOURHOOD = 3
"""k of precision and recall, as in Kynkäänniemi et al. 2019 and in torch-fidelity."""
DENSITY_NEIGHBOURHOOD = 5
"""k of density and coverage, as in Naeem et al. 2020 (arXiv:2002.09797, section 3.2), whose code is prdc."""
COPY_NEIGHBOURS, COPY_RATIO = 50, 1 / 3
"""n and alpha of Carlini et al. 2023 (arXiv:2301.13188, section 5), whose alpha is 1/2 for pixels; features of one
class lie closer together."""
LOST_CLASS = 0.1
"""A class is covered if its share among generated images is at least this part of its share in training."""
DISTANCES_AT_ONCE = 2_500_000
"""10 MB of float32: what fits into a processor's cache, and hundreds of times less than all distances."""


@dataclass(frozen=True)
class Neighbours:
    """Of N images among M training images: the `COPY_NEIGHBOURS` nearest, nearest first, or M if M is smaller.

    `distances` (N, n) are Euclidean in feature space, `indices` (N, n) are those of training images; both on the CPU.
    """

    distances: Tensor
    indices: Tensor


def _chunks(features: Tensor, others: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """Yield distances (rows, M) between some of the features (N, F) and all of the others (M, F), row by row.

    The arithmetic and so the bits are those of `torch.cdist`, but each chunk reuses the memory of the one before.
    """
    squares, other_squares = (part.square().sum(dim=1, keepdim=True) for part in (features, others))
    left = torch.cat([-2 * features, squares, torch.ones_like(squares)], dim=1)
    right = torch.cat([others, torch.ones_like(other_squares), other_squares], dim=1).T
    count = max(1, DISTANCES_AT_ONCE // len(others))
    buffer = features.new_empty(count, len(others))
    for start in range(0, len(features), count):
        rows = slice(start, min(start + count, len(features)))
        yield rows, torch.mm(left[rows], right, out=buffer[: rows.stop - start]).clamp_(min=0).sqrt_()


def radii(features: Tensor) -> Tensor:
    """Return each image's distances (N, 2) to its `NEIGHBOURHOOD`-th and `DENSITY_NEIGHBOURHOOD`-th nearest other one.

    Features are (N, F) with N > 3; if there is no fifth other image, the farthest takes its place.
    """
    result = features.new_empty(len(features), 2)
    farthest = max(NEIGHBOURHOOD, min(DENSITY_NEIGHBOURHOOD, len(features) - 1))
    for rows, distances in _chunks(features, features):
        # The smallest of all is the distance to itself.
        result[rows] = distances.topk(farthest + 1, largest=False).values[:, [NEIGHBOURHOOD, farthest]]
    return result


def manifold_scores(
    generated: Tensor, reference: Tensor, reference_radii: Tensor, manifold: Tensor | None = None
) -> tuple[dict[str, float], Neighbours]:
    """Return precision, recall, density, coverage, and the nearest training images of every generated one.

    Precision is the share of generated images that lie in the ball around some real image whose radius reaches that
    image's `NEIGHBOURHOOD`-th nearest real one; recall is the share of real images in such a ball around a generated
    one (Kynkäänniemi et al. 2019, equations 1 and 2). Density is the mean number of the real images' balls, of radius
    `DENSITY_NEIGHBOURHOOD`, that a generated image lies in, over k; coverage is the share of such balls with a
    generated image in them (Naeem et al. 2020, equations 3 and 4). All come from one pass over distances.

    Args:
        generated: features (N, F), N at least 4.
        reference: features (M, F) of training images on the same device.
        reference_radii: (m, 2) of the manifold, from `radii`.
        manifold: indices (m,) of the real images of these scores, on the same device; None: all.

    Returns:
        `precision`, `recall` and `coverage` in [0, 1] and `density`, about 1 for real images and at most m / k; and the
        neighbours of the generated images.
    """
    generated_radii, nearest = radii(generated)[:, 0], min(COPY_NEIGHBOURS, len(reference))
    small, large = reference_radii.T.contiguous()
    precise = torch.empty(len(generated), dtype=torch.bool, device=generated.device)
    recalled, covered = (torch.zeros(len(small), dtype=torch.bool, device=generated.device) for _ in range(2))
    balls = torch.empty(len(generated), dtype=torch.long, device=generated.device)
    distances = generated.new_empty(len(generated), nearest)
    indices = torch.empty(distances.shape, dtype=torch.long, device=generated.device)
    for rows, all_distances in _chunks(generated, reference):
        to_manifold = all_distances if manifold is None else all_distances[:, manifold]
        precise[rows] = (to_manifold <= small).any(dim=1)
        recalled |= (to_manifold <= generated_radii[rows, None]).any(dim=0)
        within = to_manifold <= large
        balls[rows] = within.sum(dim=1)
        covered |= within.any(dim=0)
        distances[rows], indices[rows] = all_distances.topk(nearest, largest=False)
    shares = {"precision": precise, "recall": recalled, "coverage": covered}
    values = {name: share.float().mean().item() for name, share in shares.items()}
    values["density"] = balls.double().mean().item() / DENSITY_NEIGHBOURHOOD
    return values, Neighbours(distances.cpu(), indices.cpu())


def closeness(neighbours: Neighbours) -> Tensor:
    """Return the distance to the nearest training image relative to the mean over the nearest n, (N,) in [0, 1].

    Carlini et al. 2023, section 5: what is close for one image is far for another, so nearness is relative. An exact
    copy has 0, also if the training set contains the image n times.
    """
    mean = neighbours.distances.mean(dim=1)
    return torch.where(mean > 0, neighbours.distances[:, 0] / mean, 0.0)


def near_copies(neighbours: Neighbours) -> float:
    """Return the share of images whose `closeness` is below `COPY_RATIO`.

    Held-out real images have such a share too; that of a generator that copies is larger.
    """
    return (closeness(neighbours) < COPY_RATIO).float().mean().item()


def class_shares(neighbours: Neighbours, labels: Tensor, classes: int) -> Tensor:
    """Return the share of each class (K,), an image being of the class of its nearest training image (labels (M,))."""
    nearest = labels[neighbours.indices[:, 0]]
    return torch.bincount(nearest, minlength=classes).double() / len(nearest)


def class_coverage(shares: Tensor, expected: Tensor) -> float:
    """Return the share of classes that are not lost: at least `LOST_CLASS` of what is expected of them."""
    present = expected > 0
    return (shares >= LOST_CLASS * expected)[present].double().mean().item()


def class_balance(shares: Tensor, expected: Tensor) -> float:
    """Return 1 - TV between two distributions over classes, sum_k min(p_k, q_k): 1 if they are equal, at least 0."""
    return torch.minimum(shares, expected).sum().item()
