"""Which GPUs, or which part of the CPU, a training or an evaluation occupies."""

import torch

from gan_core.runtime.device import pick_device
from mlops.images.worker_pool import cores
from mlops.project.params import Params
from mlops.safety.slots import Slot, cpu_slots


def slots_of(values: Params) -> list[list[Slot]]:
    """Return for each slot that a stage needs the alternatives: every GPU of its processes, or one of the CPU's.

    By default the CPU has as many as keep all of its cores busy. A GPU is named by its UUID: its number depends on
    CUDA_VISIBLE_DEVICES.
    """
    processes = values.execution.processes
    if pick_device(values.compute).type == "cpu":
        return [cpu_slots(max(1, cores() // (values.compute.threads * processes)))]
    numbers = range(min(processes, torch.cuda.device_count()))
    return [[Slot(f"GPU {number}", f"gpu-{torch.cuda.get_device_properties(number).uuid}")] for number in numbers]
