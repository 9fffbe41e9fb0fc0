"""What one update of one network draws."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from torch import Generator, Tensor


@dataclass(frozen=True)
class StepBatch:
    """All that one update of one network draws: what a real sample is drawn with, what a generated one is made from.

    `real` is (B, C, H, W) in [-1, 1], or points (B, D), and None if the loss reads no real samples; `z` is (B, Z).
    `labels` (B,) int64, of conditional networks, are those of the i-th real and of the i-th generated sample. Draws
    (B, N), uniform in [0, 1), decide how the images of each kind are augmented; N is 0 without augmentation. The
    generators, for the discriminator's dropout on each, are on the device where training computes; an update advances
    them, so a batch serves one. Whatever else an update draws for its real or its generated samples belongs here.

    If penalties are on that read them: `real_noise` and `fake_noise`, of the shape of `real` and N(0, 1), for finite
    differences, and `real_again` and `fake_again`, which draw what `real_rng` and `fake_rng` do; `mix` (B,), the share
    in [0, 1] of the real image in an interpolated one, and `mix_rng` for the dropout on it.
    """

    real: Tensor | None
    labels: Tensor | None
    z: Tensor
    real_draws: Tensor
    fake_draws: Tensor
    real_rng: Generator
    fake_rng: Generator
    real_noise: Tensor | None = None
    fake_noise: Tensor | None = None
    real_again: Generator | None = None
    fake_again: Generator | None = None
    mix: Tensor | None = None
    mix_rng: Generator | None = None

    def parts(self, count: int, fake: Tensor | None = None) -> Iterator[tuple["StepBatch", Tensor | None]]:
        """Yield the `count` parts of the batch that go through the networks one by one, each with its part of `fake`.

        Generators go on from one part to the next.
        """
        rows = {name: value.chunk(count) for name, value in vars(self).items() if isinstance(value, Tensor)}
        for index in range(count):
            own: dict[str, Any] = {name: chunks[index] for name, chunks in rows.items()}
            part = replace(self, **own)
            yield part, None if fake is None else fake.chunk(count)[index]
