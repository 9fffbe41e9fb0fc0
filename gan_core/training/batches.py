"""What a training draws, each by name: batches of real images, latents, and the randomness of masks."""

from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial

import torch
from torch import Generator, Tensor

from gan_core.config import NetworkConfig, TrainConfig
from gan_core.generation.latents import draw_z
from gan_core.runtime.distributed import shard
from gan_core.runtime.pixels import to_unit_range
from gan_core.runtime.randomness import stream

Name = tuple[str, tuple[int, ...]]
"""What is drawn, and where training stands: the step and, where a step draws several, their number."""


class Batches:
    """The draws of one training in O(batch), however many images there are.

    Which images a batch holds is drawn on the CPU, so it is the same on every device and wherever the images are;
    latents and masks are drawn where they are used. Of several ranks each gets its rows.
    """

    def __init__(self, config: TrainConfig, images: Tensor, device: torch.device | None = None) -> None:
        self.config, self.images = config, images
        self.device = images.device if device is None else device

    def rng(self, purpose: str, *counters: int) -> Generator:
        """Return the generator for one draw, on the device where training computes."""
        return stream(self.config.seed, purpose, *counters, device=self.device)

    def z(self, network: NetworkConfig, purpose: str, *counters: int) -> Tensor:
        """Return a batch of latents (B, Z)."""
        return shard(draw_z(network, self.config.batch_size, self.rng(purpose, *counters)))

    def real(self, purpose: str, *counters: int) -> Tensor:
        """Return a batch drawn with replacement: images (B, C, H, W) in [-1, 1], points (B, D) as they are."""
        batch = self.batch(purpose, *counters)
        return to_unit_range(batch) if batch.dtype == torch.uint8 else batch

    def batch(self, purpose: str, *counters: int) -> Tensor:
        """Return the same as it is stored, on the device where training computes."""
        return take(self.images, self.chosen(purpose, *counters), self.device)

    def chosen(self, purpose: str, *counters: int) -> Tensor:
        """Return the indices (B,) of a batch, on the CPU."""
        rng = stream(self.config.seed, purpose, *counters)
        return shard(torch.randint(len(self.images), (self.config.batch_size,), generator=rng))


class StreamedBatches(Batches):
    """The same draws of images that stay outside of the device's memory.

    While a step computes, a thread gathers what the next step will draw under the same name into pinned memory, from
    which the device fetches it without anybody waiting.
    """

    def __init__(self, config: TrainConfig, images: Tensor, device: torch.device) -> None:
        super().__init__(config, images, device)
        # A thread starts on the first GPU, where a rank of another has nothing to do.
        to_own_gpu = partial(torch.cuda.set_device, torch.cuda.current_device()) if device.type == "cuda" else None
        self._thread = ThreadPoolExecutor(1, initializer=to_own_gpu)
        self._ahead: dict[Name, Future[Tensor]] = {}

    def batch(self, purpose: str, *counters: int) -> Tensor:
        """Return what was gathered ahead, and have the next step's gathered."""
        ahead = self._ahead.pop((purpose, counters), None)
        gathered = self._gathered(purpose, *counters) if ahead is None else ahead.result()
        following = (counters[0] + 1, *counters[1:])
        self._ahead[purpose, following] = self._thread.submit(self._gathered, purpose, *following)
        return gathered.to(self.device, non_blocking=True)

    def _gathered(self, purpose: str, *counters: int) -> Tensor:
        gathered = self.images[self.chosen(purpose, *counters)]
        return gathered.pin_memory() if self.device.type == "cuda" else gathered


def take(images: Tensor, indices: Tensor, device: torch.device) -> Tensor:
    """Return some of the images on a device; `images` may be there already, or on the CPU, mapped from a file.

    Args:
        images: (N, ...), of any type.
        indices: (B,), on the CPU.
        device: where the result is.

    Returns:
        (B, ...), as the images are stored; no other image is touched.
    """
    return images[indices.to(images.device, non_blocking=True)].to(device, non_blocking=True)


def draw_batch(images: Tensor, count: int, rng: Generator, device: torch.device) -> Tensor:
    """Return what a discriminator sees of `count` images, drawn with replacement in O(count).

    Args:
        images: (N, C, H, W) uint8, or points of a known density (N, D) float, on `device` or on the CPU.
        count: at least 1.
        rng: on the CPU.
        device: where the result is.

    Returns:
        Images (count, C, H, W) in [-1, 1]; points (count, D) as they are.
    """
    batch = take(images, torch.randint(len(images), (count,), generator=rng), device)
    return to_unit_range(batch) if batch.dtype == torch.uint8 else batch
