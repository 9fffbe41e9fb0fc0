"""Where torch computes, and with how many threads."""

import torch

from gan_core.config import ComputeConfig


def pick_device(compute: ComputeConfig) -> torch.device:
    """Return the device of `compute.device`, `auto` being the GPU where there is one; sets torch's CPU threads.

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
    return torch.device("cuda" if compute.device != "cpu" and torch.cuda.is_available() else "cpu")
