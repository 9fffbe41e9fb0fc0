"""What training converges to: the theory of Goodfellow et al. 2014 (arXiv:1406.2661), section 4, in nats.

V(D, G) (equation 1) is the integral of a log y + b log(1 - y) with a = p_data(x), b = p_g(x) and y = D(x) (equation 3),
which is maximal at D*, y = a / (a + b) (equation 2). There it is C(G) (equation 4) = -log 4 + KL(p_data || m) +
KL(p_g || m) with m = (p_data + p_g) / 2 (equation 5) = -log 4 + 2 JSD (equation 6), which is minimal, -log 4, only if
p_g = p_data (Theorem 1).

A distribution is a tensor of any shape: the probabilities of outcomes, such as the cells of a grid. They should add up
to 1; this is not checked, because a grid cuts off tails. Probabilities that are negative or not finite, and two shapes,
raise ValueError. Zeros are exact, 0 log 0 = 0, and nothing is added to avoid them.
"""

import math

import torch
from torch import Tensor


def _check(*distributions: Tensor) -> None:
    if len({distribution.shape for distribution in distributions}) > 1:
        raise ValueError(f"distributions must have one shape, got {[tuple(each.shape) for each in distributions]}")
    if not all(((distribution >= 0) & distribution.isfinite()).all() for distribution in distributions):
        raise ValueError("probabilities must be at least 0 and finite")


def kl_divergence(*, p: Tensor, q: Tensor) -> Tensor:
    """Return KL(p || q) = sum p log(p / q), the divergence of Goodfellow et al. 2014, equation 5.

    Args:
        p: any shape, the distribution that is averaged over.
        q: shape of `p`.

    Returns:
        A scalar in nats, at least 0 up to rounding; infinite if q = 0 < p, also if q underflowed to 0.
    """
    _check(p, q)
    return (torch.xlogy(p, p) - torch.xlogy(p, q)).sum()


def jensen_shannon_divergence(*, p: Tensor, q: Tensor) -> Tensor:
    """Return JSD(p, q) = (KL(p || m) + KL(q || m)) / 2, m = (p + q) / 2: Goodfellow et al. 2014, equation 6.

    Symmetric and always finite. By Pinsker's inequality at least TV(p, q)^2 / 2 with TV = sum |p - q| / 2, so 0 only if
    p = q; log 2 if they share no support.

    Args:
        p: any shape.
        q: shape of `p`.

    Returns:
        A scalar in nats, in [0, log 2] up to rounding.
    """
    _check(p, q)
    # KL(c p || c q) = c KL(p || q), here with c = 2: half of the smallest float is 0, half of no sum is needed.
    return (kl_divergence(p=2 * p, q=p + q) + kl_divergence(p=2 * q, q=p + q)) / 4


def optimal_discriminator_prob(*, p_data: Tensor, p_g: Tensor) -> Tensor:
    """Return D*(x) = p_data / (p_data + p_g): Goodfellow et al. 2014, equation 2 (Proposition 1).

    Args:
        p_data: any shape, the distribution of the data.
        p_g: shape of `p_data`, the distribution of generated samples.

    Returns:
        The shape of `p_data`, in [0, 1]; 1/2 where both are 0, because V(D, G) does not depend on D there.
    """
    _check(p_data, p_g)
    return torch.where((p_data == 0) & (p_g == 0), 0.5, p_data / (p_data + p_g))


def criterion(*, p_data: Tensor, p_g: Tensor) -> Tensor:
    """Return C(G) = max over D of V(D, G) = -log 4 + 2 JSD(p_data, p_g): Goodfellow et al. 2014, equations 4 and 6.

    Args:
        p_data: any shape, the distribution of the data.
        p_g: shape of `p_data`, the distribution of generated samples.

    Returns:
        A scalar in nats, in [-log 4, 0] up to rounding; -log 4 only if p_g = p_data (Theorem 1).
    """
    return 2 * jensen_shannon_divergence(p=p_data, q=p_g) - math.log(4)
