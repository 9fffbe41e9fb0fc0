"""All scores of generated images, from features that were extracted once.

FID (Heusel et al. 2017, equation 6) is |m1 - m2|^2 + Tr(S1 + S2 - 2 (S1 S2)^(1/2)) for the means and covariances of
features; IS (Salimans et al. 2016, equation 1) is exp E KL(p(y|x) || p(y)); KID (Binkowski et al. 2018, section 3) is
the unbiased squared MMD under the kernel (x.y / F + 1)^3, averaged over subsets. These three are torch-fidelity's, with
the images that it draws; to import it would take longer than to compute them.
MIND (Berthet et al. 2026, arXiv:2605.06797) is a sliced Wasserstein distance; torch-fidelity has it after 0.4.0.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gan_core.metrics.features import Features
from gan_core.metrics.neighbours import (
    Neighbours,
    class_balance,
    class_coverage,
    class_shares,
    manifold_scores,
    near_copies,
    radii,
)
from gan_core.runtime.randomness import stream
from gan_core.runtime.sampling import sample

DRAWS_SEED = 2020
"""Of KID's subsets and of the shuffle before IS's parts, torch-fidelity's default, and of MIND's. All are simple random
samples: the estimate of KID is unbiased for independent images, but for stratified ones too small."""
DIRECTIONS = 1000
"""Onto which MIND projects features. Another 1,000 move it by 2 %, the same in every set that is compared."""


@dataclass(frozen=True)
class Settings:
    """IS is averaged over `isc_splits` parts, KID over `kid_subsets` random subsets of `kid_subset_size` images."""

    isc_splits: int
    kid_subsets: int
    kid_subset_size: int


class Reference:
    """Training images as all scores use them, on the device of the comparison; their statistics are computed once.

    `feature_radii` are those of the images `manifold`, None if of all.
    """

    def __init__(
        self,
        features: Tensor,
        feature_radii: Tensor,
        labels: Tensor | None,
        classes: int,
        manifold: Tensor | None = None,
    ) -> None:
        self.features, self.radii, self.manifold = features, feature_radii, manifold
        self.labels, self.classes = labels, classes
        self.mean, self.covariance = _moments(features.cpu())
        self.projections: dict[int, NDArray[np.float32]] = {}
        self.shares = None if labels is None else torch.bincount(labels, minlength=classes).double() / len(labels)

    @cached_property
    def root(self) -> NDArray[np.float64]:
        """The symmetric root of the covariance."""
        values, vectors = np.linalg.eigh(self.covariance)
        root: NDArray[np.float64] = vectors * np.sqrt(values.clip(0)) @ vectors.T
        return root

    @classmethod
    def of(cls, features: Tensor, labels: Tensor | None = None, classes: int = 0) -> "Reference":
        """Return the reference of features (M, F), with labels (M,) in 0..classes - 1 if there are any."""
        return cls(features, radii(features), labels, classes)


def _moments(features: Tensor) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Return mean (F,) and covariance (F, F) of features (N, F)."""
    values = features.numpy()
    return np.mean(values, axis=0), np.cov(values, rowvar=False)


def fid(features: Tensor, reference: Reference) -> float:
    """Return the Frechet distance between features (N, F) and the reference.

    If N < F, the roots of all but N eigenvalues are 0, and those of a matrix (N, N) take a twentieth of the time.
    """
    mean, covariance = _moments(features)
    # S1 S2 has the eigenvalues of R S1 R with R R = S2, which is symmetric.
    if len(features) >= features.shape[1]:
        product = reference.root @ covariance @ reference.root
    else:  # S1 is X'X, so these are the eigenvalues of X S2 X' and zeros.
        centred = (features.double() - features.double().mean(dim=0)).numpy() / (len(features) - 1) ** 0.5
        product = centred @ reference.covariance @ centred.T
    roots, offset = np.sqrt(np.linalg.eigvalsh(product).clip(0)), mean - reference.mean
    return float(offset.dot(offset) + np.trace(covariance) + np.trace(reference.covariance) - 2 * roots.sum())


def inception_score(logits: Tensor, splits: int) -> float:
    """Return IS from logits (N, K), the mean of `splits` parts of shuffled images."""
    shuffled = logits[np.random.RandomState(DRAWS_SEED).permutation(len(logits))].double()
    probabilities, logs, values = shuffled.softmax(dim=1), shuffled.log_softmax(dim=1), []
    for number in range(splits):
        part = slice(number * len(logits) // splits, (number + 1) * len(logits) // splits)
        p, log_p = probabilities[part], logs[part]
        values.append((p * (log_p - p.mean(dim=0).log())).sum(dim=1).mean().exp().item())
    return float(np.mean(values))


def kid_of_subsets(features: Tensor, reference: Tensor, subsets: int, size: int) -> float:
    """Return the mean KID of random subsets of `size` features (N, F) and (M, F) each."""
    sides, rng, values = (features.cpu().numpy(), reference.cpu().numpy()), np.random.RandomState(DRAWS_SEED), []
    for _ in range(subsets):
        x, y = (side[rng.choice(len(side), size, replace=False)] for side in sides)
        same_x, same_y, other = ((a @ b.T * (1 / a.shape[1]) + 1) ** 3 for a, b in ((x, x), (y, y), (x, y)))
        pairs = sum((kernel.sum(axis=1) - kernel.diagonal()).sum() for kernel in (same_x, same_y))
        values.append(float(pairs / (size * (size - 1)) - 2 * other.sum(axis=0).sum() / size**2))
    return float(np.mean(values))


def mind(features: Tensor, reference: Reference) -> float:
    """Return the Monge Inception Distance between features (N, F) and a sample of N of the reference, if it has more.

    3 F E_u W2^2(u.x, u.y), over `DIRECTIONS` unit vectors u; in one dimension the squared Wasserstein distance is the
    mean squared difference of sorted values. The factor gives Gaussians that differ in their mean alone 3 times FID.
    If the reference is smaller, it is the features of which a sample is taken.
    """
    count = min(len(features), len(reference.features))
    if count not in reference.projections:
        reference.projections[count] = _projected(reference.features, count)
    return float(3 * features.shape[1] * np.square(_projected(features, count) - reference.projections[count]).mean())


def _projected(features: Tensor, count: int) -> NDArray[np.float32]:
    """Return `count` of features (N, F) on each direction, sorted, (`DIRECTIONS`, count)."""
    chosen = features[sample(len(features), count, stream(DRAWS_SEED, "MIND's images"))].cpu()
    directions = torch.randn(DIRECTIONS, chosen.shape[1], generator=stream(DRAWS_SEED, "MIND's directions"))
    unit = directions / directions.norm(dim=1, keepdim=True)
    ordered: NDArray[np.float32] = np.sort((unit @ chosen.T).numpy(), axis=1)  # ten times faster than torch's
    return ordered


def scores(images: Features, reference: Reference, settings: Settings) -> tuple[dict[str, float], Neighbours]:
    """Return every score of images against the training images.

    Args:
        images: of N images, N at least `kid_subset_size` and `isc_splits` and more than 3.
        reference: of the training images, as many or more than `kid_subset_size`.
        settings: of IS and KID.

    Returns:
        `fid`, `kid`, `mind`, `is`, `precision`, `recall`, `density`, `coverage`, `near_copies` and, for labelled data,
        `class_coverage` and `class_balance`; and the nearest training images of each image.
    """
    features = images.features.to(reference.features.device)
    manifold = reference.radii, reference.manifold
    near, neighbours = manifold_scores(features, reference.features, *manifold)
    values = {
        "fid": fid(images.features, reference),
        "kid": kid_of_subsets(images.features, reference.features, settings.kid_subsets, settings.kid_subset_size),
        "mind": mind(features, reference),
        "is": inception_score(images.logits, settings.isc_splits),
        **{name: near[name] for name in ("precision", "recall", "density", "coverage")},
        "near_copies": near_copies(neighbours),
    }
    if reference.labels is not None and reference.shares is not None:
        shares = class_shares(neighbours, reference.labels, reference.classes)
        values["class_coverage"] = class_coverage(shares, reference.shares)
        values["class_balance"] = class_balance(shares, reference.shares)
    return values, neighbours


def uniform_noise(shape: tuple[int, ...], rng: torch.Generator, at_once: int) -> Iterator[Tensor]:
    """Yield uint8 images of a shape (N, C, H, W), `at_once` of them, uniform on [0, 255]: of the worst generator."""
    for start in range(0, shape[0], at_once):
        yield torch.randint(256, (min(at_once, shape[0] - start), *shape[1:]), generator=rng, dtype=torch.uint8)


def superimposed(images: Tensor, count: int, rng: torch.Generator, at_once: int) -> Iterator[Tensor]:
    """Yield `count` means of two random ones of `images` (M, C, H, W) uint8, `at_once`: what a trivial generator makes.

    On digits, MNIST and emoji its FID is between those of a trained generator and of noise. That of images averaged to
    a quarter of their side, or of pixels drawn one by one from their distributions, is above that of noise on some.
    """
    for first, second in torch.randint(len(images), (2, count), generator=rng).split(at_once, dim=1):
        yield ((images[first].int() + images[second].int() + 1) // 2).to(torch.uint8)
