"""Where torch computes, and how it is set up there."""

import ctypes
import sys
from dataclasses import dataclass

import torch

from gan_core.config import ComputeConfig


@dataclass(frozen=True)
class Arithmetic:
    """How a training computes: with bfloat16 inside the networks or not, and in how many parts a batch."""

    bf16: bool
    micro_batches: int


PLAIN = Arithmetic(bf16=False, micro_batches=1)
"""float32 and whole batches."""


def pick_device(compute: ComputeConfig) -> torch.device:
    """Return the device of `compute.device`; `auto` is the GPU if torch finds one.

    ValueError is raised if it is `cuda`, but torch finds no GPU.
    """
    if compute.device == "cuda" and not torch.cuda.is_available():
        raise ValueError("compute.device is cuda, but torch finds no GPU; set it to auto or cpu")
    return torch.device("cuda" if compute.device != "cpu" and torch.cuda.is_available() else "cpu")


def configure_torch(compute: ComputeConfig) -> None:
    """Set up torch once, before this process computes: CPU threads, deterministic cuDNN, and memory kept on the CPU."""
    torch.set_num_threads(compute.threads)  # the same number gives the same bits
    torch.backends.cudnn.deterministic = True
    if pick_device(compute).type == "cpu":
        _keep_freed_memory()


def _keep_freed_memory() -> None:
    """Make glibc keep up to 1 GiB of freed memory; other C libraries have no such setting.

    By default it returns what lies on top of the heap to the system. Each step would request it again, and the system
    would clear it again: 5,000 page faults, a twelfth of a convolutional pair's step.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        mallopt(-3, 32 << 20)  # M_MMAP_THRESHOLD: smaller tensors are on the heap
        mallopt(-1, 1 << 30)  # M_TRIM_THRESHOLD


def has_bf16(device: torch.device) -> bool:
    """Return whether the device has instructions that multiply bfloat16; without them it is slower than float32."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
