"""Latents from named randomness: banks, truncation, and interpolation between latents."""

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
        ValueError: truncation is given for uniform z, or is not above 0.
    """
    if truncation is not None and config.z_distribution != "normal":
        raise ValueError("truncation is for normal latents; those of this generator are uniform on [-1, 1]")
    z = torch.cat([draw_z(config, 1, stream(seed, "z bank", index)) for index in range(first, first + count)])
    return z if truncation is None else truncated(z, truncation)


def truncated(z: Tensor, truncation: float) -> Tensor:
    """Return latents of the standard normal restricted to [-t, t], as a function of standard normal ones.

    The truncation trick of Brock et al. 2019 (arXiv:1809.11096, section 3.1): images of latents near the mode are
    better one by one and vary less. There a component outside of the interval is drawn anew; here each moves to its own
    quantile, z' = Phi^-1(Phi(-t) + Phi(z) (Phi(t) - Phi(-t))), which has the same distribution, draws nothing and keeps
    signs and order, so an image stays related to the one without truncation. As t grows, z' becomes z.

    Args:
        z: standard normal, any shape.
        truncation: t, above 0.

    Returns:
        z' in [-t, t], of the shape and type of z.

    Raises:
        ValueError: t is not above 0.
    """
    if not truncation > 0:
        raise ValueError(f"truncation must be above 0, got {truncation}")
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
    norms fall to where no z is ever drawn.

    Args:
        config: how z is distributed.
        start: (Z,).
        end: (Z,), not opposite to `start`.
        steps: at least 2.

    Returns:
        Latents, evenly spaced in length or angle.
    """
    share = torch.linspace(0, 1, steps)[:, None]
    angle = torch.acos(torch.nn.functional.cosine_similarity(start, end, dim=0).clamp(-1, 1))
    if config.z_distribution == "uniform" or angle < 1e-4:
        return torch.lerp(start, end, share)
    return (torch.sin((1 - share) * angle) * start + torch.sin(share * angle) * end) / torch.sin(angle)
