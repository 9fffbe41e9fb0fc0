"""What the steps of a training draw, each by name: real images, labels, latents, augmentation, masks, for penalties."""

from concurrent.futures import Future, ThreadPoolExecutor
from functools import cached_property, partial

import torch
from torch import Generator, Tensor

from gan_core.augmentation.augment import draws_of
from gan_core.generation.latents import draw_z
from gan_core.losses.adversarial import OBJECTIVES
from gan_core.runtime.distributed import shard
from gan_core.runtime.pixels import to_unit_range
from gan_core.runtime.randomness import stream, unused
from gan_core.runtime.sampling import ByClass
from gan_core.runtime.schedules import largest
from gan_core.training.state import TrainState
from gan_core.training.step_batch import StepBatch


class Batches:
    """The draws of one training in O(batch), however many images there are.

    Indices of real images are drawn on the CPU, so they are the same on every device and wherever the images are;
    latents and masks are drawn where they are used. Each of several ranks takes its rows. `labels` (N,) int64, on the
    CPU, are for conditional networks. `unseen` images, real ones on which the discriminator is not trained, are those
    by which an augmentation adapts.
    """

    def __init__(
        self,
        state: TrainState,
        images: Tensor,
        labels: Tensor | None = None,
        unseen: Tensor | None = None,
        unseen_labels: Tensor | None = None,
    ) -> None:
        self.config, self.network, self.augmentation = state.config, state.network, state.augmentation
        self.device, self.images, self.labels = state.device, images, labels
        self.unseen, self.unseen_labels = unseen, unseen_labels
        uniform = self.config.class_balance == "uniform"
        self._classes = ByClass(labels) if uniform and labels is not None else None

    def discriminator(self, step: int, k: int) -> StepBatch:
        """Return the draws of the discriminator's update k, from 0, within a step, from 1."""
        config, real_rng, fake_rng = self.config, *(self._rng(f"{kind} dropout", step, k) for kind in ("real", "fake"))
        differences = config.penalty_gradient == "finite_difference"
        moves_real, moves_fake = (differences and largest(gamma) > 0 for gamma in (config.r1_gamma, config.r2_gamma))
        mixes = config.wgan_gp > 0
        real, labels = self._real("real", step, k)
        return StepBatch(
            real=real,
            labels=labels,
            z=self._z("z", step, k),
            real_draws=self._draws("real augmentation", step, k),
            fake_draws=self._draws("fake augmentation", step, k),
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
        """Return the draws of the generator's update in a step, from 1; latents may be the discriminator's last.

        Then labels, and the real images that have them, are the discriminator's last too.
        """
        fresh, last = self.config.generator_z == "fresh", (step, self.config.discriminator_steps - 1)
        name = ("generator real", step) if fresh or self.labels is None else ("real", *last)
        real, labels = self._real(*name) if OBJECTIVES[self.config.loss].paired else (None, self._labels(*name))
        return StepBatch(
            real=real,
            labels=labels,
            z=self._z("generator z", step) if fresh else self._z("z", *last),
            real_draws=self._draws("generator real augmentation", step),
            fake_draws=self._draws("generator fake augmentation", step),
            real_rng=self._rng("generator real dropout", step),
            fake_rng=self._rng("generator fake dropout", step),
        )

    def adaptation(self, step: int) -> list[tuple[Tensor, Tensor | None, Tensor]]:
        """Return what an augmentation adapts by after a step: training images, unseen ones and z.

        Each has labels, if the networks are conditional, and the draws of its augmentation.
        """
        real, labels = Batches._real(self, "adaptation real", step)  # of few steps, so nothing is gathered ahead
        sources = {
            "real": (real, labels),
            "unseen": self._unseen("adaptation unseen", step),
            "fake": (self._z("adaptation z", step), labels),
        }
        return [(*source, self._draws(f"adaptation {name} augmentation", step)) for name, source in sources.items()]

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

    def _draws(self, purpose: str, *counters: int) -> Tensor:
        """Return the uniform numbers (B, N) that an augmentation of B images takes."""
        shape = (self.config.batch_size, draws_of(self.augmentation))
        if not shape[1]:
            return shard(torch.empty(shape, device=self.device))
        return shard(torch.rand(shape, generator=self._rng(purpose, *counters), device=self.device))

    def _real(self, purpose: str, *counters: int) -> tuple[Tensor, Tensor | None]:
        """Return real samples and, of conditional networks, their labels."""
        indices = self._indices(purpose, *counters)
        return self._mirrored(taken(self.images, indices, self.device), purpose, *counters), self._at(indices)

    def _labels(self, purpose: str, *counters: int) -> Tensor | None:
        """Return the labels alone of what `_real` would draw."""
        return None if self.labels is None else self._at(self._indices(purpose, *counters))

    def _at(self, indices: Tensor) -> Tensor | None:
        return None if self.labels is None else taken(self.labels, indices, self.device)

    def _unseen(self, purpose: str, *counters: int) -> tuple[Tensor, Tensor | None]:
        """Return real samples on which the discriminator is not trained, and their labels."""
        if self.unseen is None:
            raise ValueError(
                "an augmentation adapts by real images that the discriminator is not trained on; give some"
            )
        rng = stream(self.config.seed, purpose, *counters)
        indices = shard(torch.randint(len(self.unseen), (self.config.batch_size,), generator=rng))
        unseen = self._mirrored(taken(self.unseen, indices, self.device), purpose, *counters)
        return unseen, None if self.unseen_labels is None else taken(self.unseen_labels, indices, self.device)

    def _indices(self, purpose: str, *counters: int) -> Tensor:
        """Return the indices (B,) of a batch drawn with replacement, on the CPU."""
        rng, count = stream(self.config.seed, purpose, *counters), self.config.batch_size
        if self._classes is not None:
            return shard(self._classes.draw(count, rng))
        return shard(torch.randint(len(self.images), (count,), generator=rng))

    def _mirrored(self, images: Tensor, purpose: str, *counters: int) -> Tensor:
        """Return real images, each as it is or, with `train.mirror`, reversed from left to right by a fair coin."""
        if not self.config.mirror:
            return images
        rng = stream(self.config.seed, f"{purpose} mirror", *counters)
        reversed_ = torch.rand(self.config.batch_size, 1, 1, 1, generator=rng) < 0.5
        return torch.where(shard(reversed_).to(self.device, non_blocking=True), images.flip(-1), images)


class StreamedBatches(Batches):
    """The same draws of images that stay outside of the device's memory.

    While a step computes, a thread gathers the real images of the next step into pinned memory, from which the device
    copies them without waiting.
    """

    @cached_property
    def _thread(self) -> ThreadPoolExecutor:
        # A thread starts on the first GPU, which a rank of another GPU must leave alone.
        to_own_gpu = partial(torch.cuda.set_device, torch.cuda.current_device()) if self.device.type == "cuda" else None
        return ThreadPoolExecutor(1, initializer=to_own_gpu)

    @cached_property
    def _ahead(self) -> dict[tuple[str, tuple[int, ...]], Future[tuple[Tensor, Tensor | None]]]:
        return {}

    def _real(self, purpose: str, *counters: int) -> tuple[Tensor, Tensor | None]:
        """Return what was gathered ahead, and start to gather the next step's."""
        ahead = self._ahead.pop((purpose, counters), None)
        images, labels = self._gathered(purpose, *counters) if ahead is None else ahead.result()
        following = (counters[0] + 1, *counters[1:])
        self._ahead[purpose, following] = self._thread.submit(self._gathered, purpose, *following)
        real = self._mirrored(_as_input(images, self.device), purpose, *counters)
        return real, None if labels is None else _as_input(labels, self.device)

    def _gathered(self, purpose: str, *counters: int) -> tuple[Tensor, Tensor | None]:
        indices = self._indices(purpose, *counters)
        labels = None if self.labels is None else self.labels[indices]
        pinned = self.images[indices].pin_memory() if self.device.type == "cuda" else self.images[indices]
        return pinned, labels


def taken(images: Tensor, indices: Tensor, device: torch.device) -> Tensor:
    """Return the images of some `indices` (B,) on `device` as a discriminator reads them; no other image is touched.

    Images (N, C, H, W) uint8 become (B, C, H, W) in [-1, 1]; points of a known density (N, D) float, and labels (N,)
    int64, stay as they are.
    Both lie on `device` or on the CPU, perhaps mapped from a file; the indices are on the CPU.
    """
    return _as_input(images[indices.to(images.device, non_blocking=True)], device)


def _as_input(batch: Tensor, device: torch.device) -> Tensor:
    moved = batch.to(device, non_blocking=True)
    return to_unit_range(moved) if moved.dtype == torch.uint8 else moved
