"""What the game converges to: the theory of Goodfellow et al. 2014 (arXiv:1406.2661), section 4, in nats.

The road of Theorem 1, a function for each step: V(D, G) (equation 1) is the integral of a log y + b log(1 - y) with
a = p_data(x), b = p_g(x) and y = D(x) (equation 3), which is maximal at y = a / (a + b) (equation 2). There it is
C(G) (equation 4) = -log 4 + two KL divergences from the mixture (equation 5) = -log 4 + 2 JSD (equation 6), which is
minimal, -log 4, only where p_g = p_data.

A density is a tensor of any shape: its values at the midpoints of a grid whose cells all have the volume `cell`, or
probabilities with a cell of 1. It should have mass 1 on the grid; this is not checked, because a grid cuts tails off.
A negative or non-finite density, a cell that is not positive and shapes that differ raise ValueError.

Zeros are exact, 0 log 0 = 0, and nothing is added to avoid them. D is given by its logits: log D = logsigmoid(logits),
log(1 - D) = logsigmoid(-logits), which are exact in float64 too (torch's softplus(x) is x from x = 20 on).
"""

import math

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid


def _check(*densities: Tensor, cell: float = 1.0) -> None:
    if len({density.shape for density in densities}) > 1:
        raise ValueError(f"densities have one shape, not {[tuple(density.shape) for density in densities]}")
    if not all(((density >= 0) & density.isfinite()).all() for density in densities):
        raise ValueError("a density is at least 0 and finite everywhere")
    if not 0 < cell < math.inf:
        raise ValueError(f"the volume of a cell is positive and finite, not {cell}")


def entropy(p: Tensor, *, cell: float) -> Tensor:
    """Return H(p) = -∫ p log p, a scalar in nats; negative for a density that is concentrated enough."""
    return cross_entropy(p=p, q=p, cell=cell)


def cross_entropy(*, p: Tensor, q: Tensor, cell: float) -> Tensor:
    """Return H(p, q) = -∫ p log q.

    Args:
        p: any shape, the density that is averaged over.
        q: shape of `p`, the density whose logarithm is taken.
        cell: the volume of a grid cell; 1 for probabilities.

    Returns:
        A scalar in nats; infinite where q = 0 < p.
    """
    _check(p, q, cell=cell)
    return -torch.xlogy(p, q).sum() * cell


def kl_divergence(*, p: Tensor, q: Tensor, cell: float) -> Tensor:
    """Return KL(p || q) = ∫ p log(p / q), the divergence of Goodfellow et al. 2014, equation 5.

    Args:
        p: any shape, the density that is averaged over.
        q: shape of `p`.
        cell: the volume of a grid cell; 1 for probabilities.

    Returns:
        A scalar in nats, at least 0 up to rounding; infinite where q = 0 < p, also where q underflowed to 0.
    """
    _check(p, q, cell=cell)
    return (torch.xlogy(p, p) - torch.xlogy(p, q)).sum() * cell


def mixture_divergences(*, p_data: Tensor, p_g: Tensor, cell: float) -> tuple[Tensor, Tensor]:
    """Return KL(p_data || m) and KL(p_g || m), m = (p_data + p_g) / 2: Goodfellow et al. 2014, equation 5.

    Args:
        p_data: any shape, the density of the data.
        p_g: shape of `p_data`, the density of generated samples.
        cell: the volume of a grid cell; 1 for probabilities.

    Returns:
        Two scalars in nats, each in [0, log 2] up to rounding: the mixture is nowhere less than half of either.
    """
    _check(p_data, p_g, cell=cell)
    # KL(c p || c q) = c KL(p || q), here with c = 2: half of the smallest float is 0, half of no sum is needed.
    total = p_data + p_g
    return kl_divergence(p=2 * p_data, q=total, cell=cell) / 2, kl_divergence(p=2 * p_g, q=total, cell=cell) / 2


def jensen_shannon_divergence(*, p: Tensor, q: Tensor, cell: float) -> Tensor:
    """Return JSD(p, q) = (KL(p || m) + KL(q || m)) / 2, m = (p + q) / 2: Goodfellow et al. 2014, equation 6.

    Symmetric and always finite. By Pinsker's inequality at least TV(p, q)^2 / 2 with TV = ∫ |p - q| / 2, so 0 only
    where p = q; log 2 where they share no support.

    Args:
        p: any shape, a density.
        q: shape of `p`, a density.
        cell: the volume of a grid cell; 1 for probabilities.

    Returns:
        A scalar in nats, in [0, log 2] up to rounding.
    """
    of_p, of_q = mixture_divergences(p_data=p, p_g=q, cell=cell)
    return (of_p + of_q) / 2


def _weighted(weights: Tensor, logs: Tensor) -> Tensor:
    return weights * logs.masked_fill((weights == 0) & logs.isinf(), 0)


def value_on_grid(*, p_data: Tensor, p_g: Tensor, logits: Tensor, cell: float) -> Tensor:
    """Return V(D, G) = ∫ a log y + b log(1 - y), a = p_data, b = p_g, y = D(x): Goodfellow et al. 2014, equation 3.

    Where a + b > 0 the integrand is strictly concave in y with the derivative a / y - b / (1 - y), so it is maximal at
    y = a / (a + b) and nowhere else: the proof of Proposition 1.

    Args:
        p_data: any shape, the density of the data.
        p_g: shape of `p_data`, the density of generated samples.
        logits: shape of `p_data`, the discriminator's logits; may be infinite.
        cell: the volume of a grid cell; 1 for probabilities.

    Returns:
        A scalar in nats, at most C(G) and equal to it for D*; -inf where D is certain and wrong.
    """
    _check(p_data, p_g, cell=cell)
    if logits.shape != p_data.shape:
        raise ValueError(f"logits have the shape of the densities, {tuple(p_data.shape)}, not {tuple(logits.shape)}")
    integrand = _weighted(p_data, logsigmoid(logits)) + _weighted(p_g, logsigmoid(-logits))
    return integrand.sum() * cell


def _with_ties_for_absence(p_data: Tensor, p_g: Tensor) -> tuple[Tensor, Tensor]:
    _check(p_data, p_g)
    absent = (p_data == 0) & (p_g == 0)
    return p_data.masked_fill(absent, 1), p_g.masked_fill(absent, 1)


def optimal_discriminator_prob(*, p_data: Tensor, p_g: Tensor) -> Tensor:
    """Return D*(x) = p_data / (p_data + p_g): Goodfellow et al. 2014, equation 2 (Proposition 1).

    Args:
        p_data: any shape, the density of the data.
        p_g: shape of `p_data`, the density of generated samples.

    Returns:
        The shape of `p_data`, in [0, 1]; 1/2 where both densities are 0, where V(D, G) does not depend on D.
    """
    p_data, p_g = _with_ties_for_absence(p_data, p_g)
    return p_data / (p_data + p_g)


def optimal_discriminator_logits(*, p_data: Tensor, p_g: Tensor) -> Tensor:
    """Return log p_data - log p_g, whose sigmoid is D*: Goodfellow et al. 2014, equation 2, exact where D* rounds to 1.

    Args:
        p_data: any shape, the density of the data.
        p_g: shape of `p_data`, the density of generated samples.

    Returns:
        The shape of `p_data`; infinite where one density is 0, and 0 where both are.
    """
    p_data, p_g = _with_ties_for_absence(p_data, p_g)
    return p_data.log() - p_g.log()


def criterion(*, p_data: Tensor, p_g: Tensor, cell: float) -> Tensor:
    """Return C(G) = max over D of V(D, G) = -log 4 + 2 JSD(p_data, p_g): Goodfellow et al. 2014, equations 4 and 6.

    Args:
        p_data: any shape, the density of the data.
        p_g: shape of `p_data`, the density of generated samples.
        cell: the volume of a grid cell; 1 for probabilities.

    Returns:
        A scalar in nats, in [-log 4, 0] up to rounding; -log 4 only where p_g = p_data (Theorem 1).
    """
    return 2 * jensen_shannon_divergence(p=p_data, q=p_g, cell=cell) - math.log(4)


def cross_entropy_estimate(log_q: Tensor) -> Tensor:
    """Return the unbiased estimate -mean log q(x) of H(p, q) from log q (N,) at N samples of p; of H(p) if q = p."""
    return -log_q.mean()


def kl_estimate(*, log_p: Tensor, log_q: Tensor) -> Tensor:
    """Return the unbiased estimate of KL(p || q) from log p and log q (N,) at the same N samples of p; may be < 0."""
    return (log_p - log_q).mean()
