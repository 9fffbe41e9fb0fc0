"""What the steps of a training draw, each by name: real images, latents, masks, and what penalties draw."""

from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import torch
from torch import Generator, Tensor

from gan_core.generation.latents import draw_z
from gan_core.losses.adversarial import OBJECTIVES
from gan_core.runtime.distributed import shard
from gan_core.runtime.pixels import to_unit_range
from gan_core.runtime.randomness import stream, unused
from gan_core.runtime.schedules import largest
from gan_core.training.state import TrainState


@dataclass(frozen=True)
class StepBatch:
    """All that one update of one network draws: what a real sample is drawn with, what a generated one is made from.

    `real` is (B, C, H, W) in [-1, 1], or points (B, D), and None if the loss reads no real samples; `z` is (B, Z). The
    generators, for the discriminator's dropout on each, are on the device where training computes; an update advances
    them, so a batch serves one. Whatever else an update draws for its real or its generated samples belongs here.

    If penalties are on that read them: `real_noise` and `fake_noise`, of the shape of `real` and N(0, 1), for finite
    differences, and `real_again` and `fake_again`, which draw what `real_rng` and `fake_rng` do; `mix` (B,), the share
    in [0, 1] of the real image in an interpolated one, and `mix_rng` for the dropout on it.
    """

    real: Tensor | None
    z: Tensor
    real_rng: Generator
    fake_rng: Generator
    real_noise: Tensor | None = None
    fake_noise: Tensor | None = None
    real_again: Generator | None = None
    fake_again: Generator | None = None
    mix: Tensor | None = None
    mix_rng: Generator | None = None


class Batches:
    """The draws of one training in O(batch), however many images there are.

    Indices of real images are drawn on the CPU, so they are the same on every device and wherever the images are;
    latents and masks are drawn where they are used. Each of several ranks takes its rows.
    """

    def __init__(self, state: TrainState, images: Tensor) -> None:
        self.config, self.network, self.device, self.images = state.config, state.network, state.device, images

    def discriminator(self, step: int, k: int) -> StepBatch:
        """Return the draws of the discriminator's update k, from 0, within a step, from 1."""
        config, real_rng, fake_rng = self.config, *(self._rng(f"{kind} dropout", step, k) for kind in ("real", "fake"))
        differences = config.penalty_gradient == "finite_difference"
        moves_real, moves_fake = (differences and largest(gamma) > 0 for gamma in (config.r1_gamma, config.r2_gamma))
        mixes = config.wgan_gp > 0
        return StepBatch(
            real=self._real("real", step, k),
            z=self._z("z", step, k),
            real_rng=real_rng,
            fake_rng=fake_rng,
            real_noise=self._noise("real noise", step, k) if moves_real else None,
            fake_noise=self._noise("fake noise", step, k) if moves_fake else None,
            real_again=unused(real_rng) if moves_real else None,
            fake_again=unused(fake_rng) if moves_fake else None,
            mix=self._mix("mix", step, k) if mixes else None,
            mix_rng=self._rng("mix dropout", step, k) if mixes else None,
        )

    def generator(self, step: int) -> StepBatch:
        """Return the draws of the generator's update in a step, from 1; latents may be the discriminator's last."""
        fresh = self.config.generator_z == "fresh"
        return StepBatch(
            real=self._real("generator real", step) if OBJECTIVES[self.config.loss].paired else None,
            z=self._z("generator z", step) if fresh else self._z("z", step, self.config.discriminator_steps - 1),
            real_rng=self._rng("generator real dropout", step),
            fake_rng=self._rng("generator fake dropout", step),
        )

    def _rng(self, purpose: str, *counters: int) -> Generator:
        return stream(self.config.seed, purpose, *counters, device=self.device)

    def _z(self, purpose: str, *counters: int) -> Tensor:
        return shard(draw_z(self.network, self.config.batch_size, self._rng(purpose, *counters)))

    def _noise(self, purpose: str, *counters: int) -> Tensor:
        shape = (self.config.batch_size, *self.images.shape[1:])
        return shard(torch.randn(shape, generator=self._rng(purpose, *counters), device=self.device))

    def _mix(self, purpose: str, *counters: int) -> Tensor:
        rng = self._rng(purpose, *counters)
        return shard(torch.rand(self.config.batch_size, generator=rng, device=self.device))

    def _real(self, purpose: str, *counters: int) -> Tensor:
        return taken(self.images, self._indices(purpose, *counters), self.device)

    def _indices(self, purpose: str, *counters: int) -> Tensor:
        """Return the indices (B,) of a batch drawn with replacement, on the CPU."""
        rng = stream(self.config.seed, purpose, *counters)
        return shard(torch.randint(len(self.images), (self.config.batch_size,), generator=rng))


class StreamedBatches(Batches):
    """The same draws of images that stay outside of the device's memory.

    While a step computes, a thread gathers the real images of the next step into pinned memory, from which the device
    copies them without waiting.
    """

    def __init__(self, state: TrainState, images: Tensor) -> None:
        super().__init__(state, images)
        # A thread starts on the first GPU, which a rank of another GPU must leave alone.
        to_own_gpu = partial(torch.cuda.set_device, torch.cuda.current_device()) if self.device.type == "cuda" else None
        self._thread = ThreadPoolExecutor(1, initializer=to_own_gpu)
        self._ahead: dict[tuple[str, tuple[int, ...]], Future[Tensor]] = {}

    def _real(self, purpose: str, *counters: int) -> Tensor:
        """Return what was gathered ahead, and start to gather the next step's."""
        ahead = self._ahead.pop((purpose, counters), None)
        gathered = self._gathered(purpose, *counters) if ahead is None else ahead.result()
        following = (counters[0] + 1, *counters[1:])
        self._ahead[purpose, following] = self._thread.submit(self._gathered, purpose, *following)
        return _as_input(gathered, self.device)

    def _gathered(self, purpose: str, *counters: int) -> Tensor:
        gathered = self.images[self._indices(purpose, *counters)]
        return gathered.pin_memory() if self.device.type == "cuda" else gathered


def taken(images: Tensor, indices: Tensor, device: torch.device) -> Tensor:
    """Return the images of some `indices` (B,) on `device` as a discriminator reads them; no other image is touched.

    Images (N, C, H, W) uint8 become (B, C, H, W) in [-1, 1]; points of a known density (N, D) float stay as they are.
    Both lie on `device` or on the CPU, perhaps mapped from a file; the indices are on the CPU.
    """
    return _as_input(images[indices.to(images.device, non_blocking=True)], device)


def _as_input(batch: Tensor, device: torch.device) -> Tensor:
    moved = batch.to(device, non_blocking=True)
    return to_unit_range(moved) if moved.dtype == torch.uint8 else moved
