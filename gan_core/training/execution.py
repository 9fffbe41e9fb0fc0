"""How a training is executed on this machine: device, arithmetic, place of the images, way to compute a step."""

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
from gan_core.training.steps import Step, train_step

RESIDENT_AT_MOST = 4 * 2**30
"""Bytes of images that are copied to a GPU, at about 1.5 GB a second; more would delay the first step."""


@dataclass(frozen=True)
class Execution:
    """Device and arithmetic of a training, and what follows from them."""

    device: torch.device
    arithmetic: Arithmetic

    def placed(self, images: Tensor) -> Tensor:
        """Return images from where batches are drawn: the GPU's memory if they fit, else where they are.

        Args:
            images: (N, C, H, W) uint8, mapped from a file.

        Returns:
            The same images; on the CPU nothing is copied.
        """
        if self.device.type == "cpu":
            return images
        free, _ = torch.cuda.mem_get_info(self.device)
        return images.to(self.device) if images.nbytes <= min(RESIDENT_AT_MOST, free // 2) else images

    def batches(self, config: TrainConfig, network: NetworkConfig, images: Tensor) -> Batches:
        """Return the batches of a training from images that were placed."""
        kind = Batches if images.device.type == self.device.type else StreamedBatches
        return kind(config, network, images, self.device)

    def step(self, report: Callable[[str], object]) -> Step:
        """Return how a step is computed: as one CUDA graph, or, by several ranks and on the CPU, launch by launch.

        Args:
            report: is called with the way to compute steps, once a step was captured or could not be.

        Returns:
            What `train` calls for every step.
        """
        return CudaGraphStep(report) if self.device.type == "cuda" and world_size() == 1 else train_step

    def summary(self, images: Tensor) -> str:
        """Return device, precision and place of the images, for the log."""
        place = "mapped from disk"
        if self.device.type == "cuda":
            place = "in the GPU's memory" if images.device.type == "cuda" else "streamed to the GPU"
        name = torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else "CPU"
        precision = "bf16 inside the networks" if self.arithmetic.bf16 else "fp32"
        ranks = f"{world_size()} ranks, launch by launch; " if world_size() > 1 else ""
        return f"{name}, {precision}; {ranks}{len(images):,} images ({images.nbytes / 1e6:,.1f} MB) {place}"


def execution_of(compute: ComputeConfig, execution: ExecutionConfig, network: NetworkConfig) -> Execution:
    """Return how to train on this machine.

    Args:
        compute: device and threads.
        execution: precision and parts of a batch.
        network: `auto` reads whether it is convolutional.

    Returns:
        Device, arithmetic and what follows.

    Raises:
        ValueError: the device is `cuda`, but torch finds no GPU.
    """
    device = pick_device(compute)
    return Execution(device, pick_arithmetic(execution, network, device))


def fitting_parts(config: TrainConfig, state: TrainState, batches: Batches) -> int | None:
    """Return the smallest number of parts of a batch that fit into memory, after the whole did not.

    Args:
        config: with the batch size that was too large.
        state: both networks; useless afterwards, as steps are tried on them.
        batches: of the training.

    Returns:
        The smallest number of equal parts that fit, or None if not even single images do.
    """
    tried, share = state.arithmetic, config.batch_size // world_size()
    for parts in range(tried.micro_batches + 1, share + 1):
        if share % parts:
            continue
        state.arithmetic = Arithmetic(tried.bf16, parts)
        try:
            train_step(config, state, batches, state.step + 1)
        except torch.OutOfMemoryError:
            torch.cuda.empty_cache()
        else:
            return parts
    return None
