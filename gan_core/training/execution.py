"""How a training is executed on this machine: device, arithmetic, place of the images, way to compute a step."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from gan_core.config import ComputeConfig, ExecutionConfig, NetworkConfig
from gan_core.networks.build import FAMILIES
from gan_core.runtime.device import Arithmetic, has_bf16, pick_device
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
        """Return images (N, C, H, W) uint8 in the GPU's memory if they fit, else where they are, mapped from a file."""
        if self.device.type == "cpu":
            return images
        free, _ = torch.cuda.mem_get_info(self.device)
        return images.to(self.device) if images.nbytes <= min(RESIDENT_AT_MOST, free // 2) else images

    def batches_of(self, images: Tensor) -> type[Batches]:
        """Return the class of the batches of a training from images that were placed."""
        return Batches if images.device.type == self.device.type else StreamedBatches

    def step(self, report: Callable[[str], object]) -> Step:
        """Return the function that computes a step.

        If it captures a CUDA graph, it calls `report` once, with how steps are computed from then on.
        """
        return CudaGraphStep(report) if self.device.type == "cuda" and world_size() == 1 else train_step

    def summary(self, images: Tensor) -> str:
        """Return device, precision and place of the images, for the log."""
        place = "mapped from disk"
        if self.device.type == "cuda":
            place = "in the GPU's memory" if images.device.type == "cuda" else "streamed to the GPU"
        name = torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else "CPU"
        precision = "bf16 inside the networks" if self.arithmetic.bf16 else "fp32"
        ranks = f"{world_size()} ranks, kernel by kernel; " if world_size() > 1 else ""
        return f"{name}, {precision}; {ranks}{len(images):,} images ({images.nbytes / 1e6:,.1f} MB) {place}"


def execution_of(compute: ComputeConfig, execution: ExecutionConfig, network: NetworkConfig) -> Execution:
    """Return how to train on this machine; precision `auto` is bfloat16 for convolutions if the device has it.

    Small matrix products lose more by the conversions than they gain. As `pick_device`, it raises ValueError for `cuda`
    without a GPU.
    """
    device = pick_device(compute)
    bf16 = execution.precision == "bf16" or (
        execution.precision == "auto" and FAMILIES[type(network)].convolutional and has_bf16(device)
    )
    return Execution(device, Arithmetic(bf16, execution.micro_batches))


def fitting_parts(state: TrainState, batches: Batches) -> int | None:
    """Return the smallest number of equal parts of a batch that fit into memory, after the whole did not.

    None if not even single images do. The state is useless afterwards, as steps are tried on it.
    """
    tried, share = state.arithmetic, state.config.batch_size // world_size()
    for parts in range(tried.micro_batches + 1, share + 1):
        if share % parts:
            continue
        state.arithmetic = Arithmetic(tried.bf16, parts)
        try:
            train_step(state, batches, state.step + 1)
        except torch.OutOfMemoryError:
            torch.cuda.empty_cache()
        else:
            return parts
    return None
