"""Latents from named randomness: banks, truncation, and ways between latents."""

import math

import torch
from torch import Generator, Tensor

from gan_core.config import NetworkConfig
from gan_core.runtime.randomness import stream


def draw_z(config: NetworkConfig, count: int, rng: Generator) -> Tensor:
    """Return latents (count, Z) on the device of `rng`: standard normal, or uniform on [-1, 1]."""
    shape = (count, config.z_dim)
    if config.z_distribution == "normal":
        return torch.randn(shape, generator=rng, device=rng.device)
    return torch.rand(shape, generator=rng, device=rng.device) * 2 - 1


def z_bank(config: NetworkConfig, *, seed: int, count: int, first: int = 0, truncation: float | None = None) -> Tensor:
    """Return `count` latents of the fixed bank that `seed` names, (count, Z), on the CPU.

    Each latent has a generator of its own, so a larger bank begins with the smaller one, and truncation changes none
    but by `truncated`.

    Args:
        config: dimensions and distribution of z.
        seed: of the bank, at least 0.
        count: latents, at least 1.
        first: number of the first of them within the bank.
        truncation: bound on the components, see `truncated`; None for none.

    Returns:
        The latents `first` to `first + count - 1` of the bank.

    Raises:
        ValueError: truncation is not above 0.
    """
    z = torch.cat([draw_z(config, 1, stream(seed, "z bank", index)) for index in range(first, first + count)])
    return z if truncation is None else truncated(config, z, truncation)


def truncated(config: NetworkConfig, z: Tensor, truncation: float) -> Tensor:
    """Return latents of the distribution of z restricted to [-t, t], as a function of z.

    The truncation trick of Brock et al. 2019 (arXiv:1809.11096, section 3.1): images of latents near the mode are
    better one by one and vary less. There a component outside of the interval is drawn anew; here each moves to its own
    quantile, z' = Phi^-1(Phi(-t) + Phi(z) (Phi(t) - Phi(-t))), which has the same distribution, draws nothing and keeps
    signs and order, so an image stays related to the one without truncation. As t grows, z' becomes z. Of uniform z the
    same map is z' = t z, for t below 1.

    Args:
        config: how z is distributed.
        z: any shape.
        truncation: t, above 0.

    Returns:
        z' in [-t, t], of the shape and type of z.

    Raises:
        ValueError: t is not above 0.
    """
    if not truncation > 0:
        raise ValueError(f"truncation must be above 0, got {truncation}")
    if config.z_distribution == "uniform":
        return z * min(truncation, 1.0)
    # The map is odd, and only the lower tail keeps its relative precision: float64 has no 1 - 1e-17. Phi(-x) is
    # erfc(x / sqrt 2) / 2; torch's own ndtr loses that tail.
    lower = torch.special.erfc(z.abs().double() / math.sqrt(2)) / 2
    bound = truncation / math.sqrt(2)
    quantiles = math.erfc(bound) / 2 + lower * math.erf(bound)
    moved = torch.special.ndtri(quantiles).clamp(min=-truncation)
    return torch.copysign(moved, z.double()).to(z.dtype)


def between(config: NetworkConfig, start: Tensor, end: Tensor, steps: int) -> Tensor:
    """Return latents on the way from one z to another, both included, (steps, Z).

    Uniform latents go straight. Normal ones go along the sphere (White 2016, arXiv:1609.04468): straight between them
    norms fall to where no z is ever drawn. If they are parallel or opposite there is no such way, or no one way, and
    they go straight; with one dimension all are.

    Args:
        config: how z is distributed.
        start: (Z,).
        end: (Z,).
        steps: at least 2.

    Returns:
        Latents, evenly spaced in length or angle.
    """
    share = torch.linspace(0, 1, steps)[:, None]
    angle = torch.acos(torch.nn.functional.cosine_similarity(start, end, dim=0).clamp(-1, 1))
    if config.z_distribution == "uniform" or not 1e-3 < angle < math.pi - 1e-3:
        return torch.lerp(start, end, share)
    return (torch.sin((1 - share) * angle) * start + torch.sin(share * angle) * end) / torch.sin(angle)


def closed_walk(config: NetworkConfig, anchors: Tensor, steps: int) -> Tensor:
    """Return latents on a way through all anchors and back to the first, (K * steps, Z), for a film without a cut.

    Args:
        config: how z is distributed.
        anchors: (K, Z), K at least 2.
        steps: from one anchor to the next, at least 1; every `steps`-th latent is an anchor.

    Returns:
        Latents, by `between`; the last is one step away from the first.
    """
    ways = [
        between(config, start, end, steps + 1)[:-1] for start, end in zip(anchors, anchors.roll(-1, 0), strict=True)
    ]
    return torch.cat(ways)
