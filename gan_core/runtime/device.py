"""Where torch computes, with how many threads, and in which arithmetic."""

import ctypes
import sys
from dataclasses import dataclass
from typing import Literal

import torch

from gan_core.config import ComputeConfig, ExecutionConfig


@dataclass(frozen=True)
class Arithmetic:
    """How a training's numbers are made: with bfloat16 inside the networks or not, and in how many parts a batch."""

    bf16: bool
    micro_batches: int


PLAIN = Arithmetic(bf16=False, micro_batches=1)
"""float32 and whole batches."""


def pick_device(compute: ComputeConfig) -> torch.device:
    """Return the device of `compute.device`, `auto` being the GPU where there is one; sets torch's CPU threads.

    What steps on a CPU free is kept for the next step.

    On the CPU the same inputs give the same bits under the same number of threads; on CUDA deterministic algorithms of
    cuDNN are chosen.

    Args:
        compute: device and threads.

    Returns:
        The device.

    Raises:
        ValueError: `cuda` is asked for where torch finds no GPU.
    """
    torch.set_num_threads(compute.threads)
    torch.backends.cudnn.deterministic = True
    if compute.device == "cuda" and not torch.cuda.is_available():
        raise ValueError("compute.device is cuda, but torch finds no GPU here; set it to auto or cpu")
    if compute.device != "cpu" and torch.cuda.is_available():
        return torch.device("cuda")
    _keep_freed_memory()
    return torch.device("cpu")


def _keep_freed_memory() -> None:
    """Tell glibc to give at most 1 GiB less to the system than it could; other C libraries have no such setting.

    By default it gives back what lies on top of the heap. Each step would ask for it again, and the system would clear
    it again: 5,000 page faults, a twelfth of a convolutional pair's step.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        mallopt(-3, 32 << 20)  # M_MMAP_THRESHOLD: smaller tensors are on the heap
        mallopt(-1, 1 << 30)  # M_TRIM_THRESHOLD


def has_bf16(device: torch.device) -> bool:
    """Say whether the device multiplies bfloat16 by instructions of its own: others are slower with it than without."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


def pick_arithmetic(execution: ExecutionConfig, family: Literal["mlp", "dcgan"], device: torch.device) -> Arithmetic:
    """Return the arithmetic of `execution`; `auto` takes bfloat16 for convolutions where the device has it.

    Small matrix products lose more by the conversions than they gain.

    Args:
        execution: precision and parts of a batch.
        family: of the networks.
        device: where they are applied.

    Returns:
        What `gan_core.training.loop` reads.
    """
    wanted = execution.precision == "bf16"
    chosen = execution.precision == "auto" and family == "dcgan" and has_bf16(device)
    return Arithmetic(bf16=wanted or chosen, micro_batches=execution.micro_batches)
