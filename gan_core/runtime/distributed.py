"""The ranks of one training: processes, one per GPU, each with its part of every batch.

Every rank draws the whole batch from the same named randomness and takes its own rows of it; gradients, losses and the
statistics of batch normalisation are those of the whole batch. So N ranks train as one process does, up to rounding,
and hold the same bits after every step. Without a process group of torch.distributed there is one rank, for which
everything here is the identity.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

TIMEOUT = timedelta(minutes=10)
"""How long a rank waits for the others in one collective operation; one that died is noticed at once."""

_local: ContextVar[bool] = ContextVar("local", default=False)


class LostRankError(RuntimeError):
    """Another rank has ended, or does not answer."""


def join_group(device: torch.device, meeting: str = "env://") -> None:
    """Join the process group of torchrun's variables RANK, WORLD_SIZE and LOCAL_RANK.

    On CUDA, `cuda` is from here on the GPU numbered LOCAL_RANK. `meeting`, where the ranks find each other, is the
    `init_method` of `torch.distributed.init_process_group`.
    """
    if device.type == "cuda":
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    rank, world = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    backend = "nccl" if device.type == "cuda" else "gloo"
    dist.init_process_group(backend, init_method=meeting, rank=rank, world_size=world, timeout=TIMEOUT)


def leave_group() -> None:
    """Leave the process group; this process is the only rank again."""
    dist.destroy_process_group()


def world_size() -> int:
    """Return the number of ranks."""
    grouped = dist.is_available() and dist.is_initialized() and not _local.get()
    return dist.get_world_size() if grouped else 1


def rank() -> int:
    """Return the number of this rank, from 0. Rank 0 writes all files."""
    return dist.get_rank() if world_size() > 1 else 0


@contextmanager
def local_only() -> Iterator[None]:
    """Compute what the other ranks do not: inside the context this rank is the only one and waits for no other."""
    before = _local.set(True)
    try:
        yield
    finally:
        _local.reset(before)


def shard(batch: Tensor) -> Tensor:
    """Return this rank's rows of a whole batch, whose length the number of ranks divides.

    Rank r of N takes the rows r, r + N, ...: the chunks of its part are then its parts of the batch's chunks.
    """
    return batch if world_size() == 1 else batch[rank() :: world_size()]


def all_reduce_mean(values: Tensor) -> Tensor:
    """Return the mean over ranks of values of one shape."""
    return values if world_size() == 1 else _sum(values) / world_size()


def all_reduce_gradients(network: nn.Module) -> None:
    """Replace each gradient by its mean over ranks, in one all-reduce: the networks are too small for several."""
    if world_size() == 1:
        return
    gradients = [parameter.grad for parameter in network.parameters() if parameter.grad is not None]
    flat = all_reduce_mean(torch.cat([gradient.flatten() for gradient in gradients]))
    means = flat.split([gradient.numel() for gradient in gradients])
    for gradient, mean in zip(gradients, means, strict=True):
        gradient.copy_(mean.view(gradient.shape))


def all_gather(values: Tensor) -> list[Tensor]:
    """Return the values of every rank, of one shape and type, by rank, on the CPU; a barrier for all ranks."""
    if world_size() == 1:
        return [values]
    here = values.cuda() if dist.get_backend() == "nccl" else values.contiguous()
    gathered = [torch.empty_like(here) for _ in range(world_size())]
    with _lost_ranks():
        dist.all_gather(gathered, here)
    return [value.cpu() for value in gathered]


def all_reduce_sum(values: Tensor) -> Tensor:
    """Return the sum over ranks, which can be differentiated any number of times.

    Its gradient is the sum over ranks of their gradients: each rank differentiates the sum of all losses by what it
    holds, and `all_reduce_gradients` divides it into that of their mean.
    """
    total: Tensor = _AllReduce.apply(values) if world_size() > 1 else values
    return total


class _AllReduce(torch.autograd.Function):
    @staticmethod
    def forward(_: Any, values: Tensor) -> Tensor:
        return _sum(values)

    @staticmethod
    def backward(_: Any, *gradients: Tensor) -> Tensor:
        total: Tensor = _AllReduce.apply(gradients[0])
        return total


def _sum(values: Tensor) -> Tensor:
    total = values.clone(memory_format=torch.contiguous_format)
    with _lost_ranks():
        dist.all_reduce(total)
    return total


@contextmanager
def _lost_ranks() -> Iterator[None]:
    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        raise LostRankError(str(error)) from error
