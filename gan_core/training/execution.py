"""How a training is carried out on the machine at hand: device, arithmetic, place of the images, play of a step."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from gan_core.config import ComputeConfig, ExecutionConfig, NetworkConfig, TrainConfig
from gan_core.runtime.device import Arithmetic, pick_arithmetic, pick_device
from gan_core.runtime.distributed import world_size
from gan_core.training.batches import Batches, StreamedBatches
from gan_core.training.cuda_graph import CudaGraphStep
from gan_core.training.state import TrainState
from gan_core.training.steps import Player, play_step

RESIDENT_AT_MOST = 4 * 2**30
"""Bytes of images that are copied to a GPU, at about 1.5 GB a second; more would keep the first step waiting."""


@dataclass(frozen=True)
class Execution:
    """Device and arithmetic of a training, and what follows from them."""

    device: torch.device
    arithmetic: Arithmetic

    def placed(self, images: Tensor) -> Tensor:
        """Return images where they are drawn from: in the GPU's memory where they fit, else where they are.

        Args:
            images: (N, C, H, W) uint8, mapped from a file.

        Returns:
            The same images; on the CPU nothing is copied.
        """
        if self.device.type == "cpu":
            return images
        free, _ = torch.cuda.mem_get_info(self.device)
        return images.to(self.device) if images.nbytes <= min(RESIDENT_AT_MOST, free // 2) else images

    def draws(self, config: TrainConfig, images: Tensor) -> Batches:
        """Return the draws of a training from images that were placed."""
        kind = Batches if images.device.type == self.device.type else StreamedBatches
        return kind(config, images, self.device)

    def player(self, say: Callable[[str], object]) -> Player:
        """Return how a step is played: as one CUDA graph, or, by several ranks and on the CPU, launch by launch.

        Args:
            say: is told how, once a step was captured or could not be.

        Returns:
            What `train` calls for every step.
        """
        return CudaGraphStep(say) if self.device.type == "cuda" and world_size() == 1 else play_step

    def words(self, images: Tensor) -> str:
        """Return a sentence about device, precision and images, for the log."""
        place = "mapped from disk"
        if self.device.type == "cuda":
            place = "in the GPU's memory" if images.device.type == "cuda" else "streamed to the GPU"
        name = torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else "CPU"
        precision = "bf16 inside the networks" if self.arithmetic.bf16 else "fp32"
        ranks = f"{world_size()} ranks, launch by launch; " if world_size() > 1 else ""
        return f"{name}, {precision}; {ranks}{len(images):,} images ({images.nbytes / 1e6:,.1f} MB) {place}"


def execution_of(compute: ComputeConfig, execution: ExecutionConfig, network: NetworkConfig) -> Execution:
    """Return how to train on this machine; sets torch's threads.

    Args:
        compute: device and threads.
        execution: precision and parts of a batch.
        network: `auto` reads its family.

    Returns:
        Device, arithmetic and what follows.

    Raises:
        ValueError: `cuda` is asked for where torch finds no GPU.
    """
    device = pick_device(compute)
    return Execution(device, pick_arithmetic(execution, network.family, device))


def fitting_parts(config: TrainConfig, state: TrainState, draws: Batches) -> int | None:
    """Return into how few parts a batch must go through the networks to fit into memory, after it did not.

    Args:
        config: with the batch size that was too large.
        state: both players; useless afterwards, as steps are tried on them.
        draws: of the training.

    Returns:
        The smallest number of equal parts that fit, or None where not even single images do.
    """
    tried, share = state.arithmetic, config.batch_size // world_size()
    for parts in range(tried.micro_batches + 1, share + 1):
        if share % parts:
            continue
        state.arithmetic = Arithmetic(tried.bf16, parts)
        try:
            play_step(config, state, draws, state.step + 1)
        except torch.OutOfMemoryError:
            torch.cuda.empty_cache()
        else:
            return parts
    return None
