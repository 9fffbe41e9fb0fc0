"""Named randomness: every draw has a generator of its own, seeded by what it is for and where training stands."""

import hashlib

import torch


def stream(seed: int, purpose: str, *counters: int, device: torch.device | str = "cpu") -> torch.Generator:
    """Return the generator for one draw, seeded by a hash of all arguments.

    Because nothing is carried from one draw to the next, a resumed run draws what the uninterrupted one would have
    drawn, and a new draw never shifts another. The same arguments give the same numbers on one kind of device; CPU
    and CUDA differ, as torch's generators do.

    Args:
        seed: the run's seed, at least 0.
        purpose: what is drawn, such as "z"; part of the hash.
        *counters: where training stands, such as step and index of the discriminator step.
        device: the device on which the numbers are drawn.

    Returns:
        A fresh `torch.Generator` on `device`.
    """
    return torch.Generator(device=device).manual_seed(stream_seed(seed, purpose, *counters))


def stream_seed(seed: int, purpose: str, *counters: int) -> int:
    """Return the seed, in [0, 2^63), of the stream that bears these names."""
    words = [str(seed), purpose, *map(str, counters)]
    digest = hashlib.sha256("\0".join(words).encode()).digest()
    return int.from_bytes(digest[:8], "big") % 2**63
