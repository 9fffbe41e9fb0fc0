"""Named randomness: every draw has its own generator, seeded by the draw's purpose and the position in training."""

import hashlib

import torch


def stream(seed: int, purpose: str, *counters: int, device: torch.device | str = "cpu") -> torch.Generator:
    """Return the generator for one draw, seeded by a hash of all arguments.

    No state passes from one draw to the next, so a resumed run draws what the uninterrupted one would have drawn, and
    a new draw never shifts another. The same arguments give the same numbers on one kind of device; CPU
    and CUDA differ, as torch's generators do.

    Args:
        seed: the run's seed, at least 0.
        purpose: what is drawn, such as "z".
        *counters: the position in training, such as step and index of the discriminator step.
        device: where the numbers are drawn.

    Returns:
        A fresh `torch.Generator` on `device`.
    """
    words = [str(seed), purpose, *map(str, counters)]
    digest = hashlib.sha256("\0".join(words).encode()).digest()
    return torch.Generator(device=device).manual_seed(int.from_bytes(digest[:8], "big") % 2**63)


def unused(rng: torch.Generator) -> torch.Generator:
    """Return a generator that draws what `rng`, seeded by `stream`, drew first."""
    return torch.Generator(rng.device).manual_seed(rng.initial_seed())
