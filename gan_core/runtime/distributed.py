"""The ranks of one training: processes, one per GPU, that play one game, each with its part of every batch.

Every rank draws what a whole batch draws from the same named randomness and takes its own rows of it; gradients, losses
and the statistics of batch normalisation are those of the whole batch. So N ranks play the game that one process plays,
up to rounding, and hold the same bits after every step. Where torch.distributed has no process group there is one rank,
for which everything here is the identity.
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
"""How long a rank waits for the others in one exchange; one that died is noticed at once."""

_apart: ContextVar[bool] = ContextVar("apart", default=False)


class LostRankError(RuntimeError):
    """Another rank is gone, or does not answer."""


def join_group(device: torch.device, meeting: str = "env://") -> None:
    """Become one of the ranks that the environment names, as torchrun sets it: RANK, WORLD_SIZE and LOCAL_RANK.

    Args:
        device: where this training computes; on CUDA, `cuda` is from here on the GPU numbered LOCAL_RANK.
        meeting: where the ranks find each other, as `torch.distributed.init_process_group` takes it.
    """
    if device.type == "cuda":
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    rank, world = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    backend = "nccl" if device.type == "cuda" else "gloo"
    dist.init_process_group(backend, init_method=meeting, rank=rank, world_size=world, timeout=TIMEOUT)


def leave_group() -> None:
    """Be alone again."""
    dist.destroy_process_group()


def world_size() -> int:
    """Return the number of ranks."""
    together = dist.is_available() and dist.is_initialized() and not _apart.get()
    return dist.get_world_size() if together else 1


def rank() -> int:
    """Return the number of this rank, from 0. Rank 0 records what all of them play."""
    return dist.get_rank() if world_size() > 1 else 0


@contextmanager
def local_only() -> Iterator[None]:
    """Let a rank compute what the others do not: it is alone while this context is open, and waits for nobody.

    Yields:
        Nothing.
    """
    before = _apart.set(True)
    try:
        yield
    finally:
        _apart.reset(before)


def shard(batch: Tensor) -> Tensor:
    """Return this rank's rows of a whole batch, whose length the number of ranks divides.

    Rank r of N takes the rows r, r + N, ...: the chunks of its part are then its parts of the batch's chunks.
    """
    return batch if world_size() == 1 else batch[rank() :: world_size()]


def all_reduce_mean(values: Tensor) -> Tensor:
    """Return the mean over ranks of values of one shape."""
    return values if world_size() == 1 else _sum(values) / world_size()


def all_reduce_gradients(player: nn.Module) -> None:
    """Replace each gradient by its mean over ranks, in one exchange: the networks are too small for several."""
    if world_size() == 1:
        return
    gradients = [parameter.grad for parameter in player.parameters() if parameter.grad is not None]
    flat = all_reduce_mean(torch.cat([gradient.flatten() for gradient in gradients]))
    parts = flat.split([gradient.numel() for gradient in gradients])
    for gradient, found in zip(gradients, parts, strict=True):
        gradient.copy_(found.view(gradient.shape))


def all_gather(values: Tensor) -> list[Tensor]:
    """Return the values of every rank, of one shape and type, by rank, on the CPU; no rank goes on before all came."""
    if world_size() == 1:
        return [values]
    here = values.cuda() if dist.get_backend() == "nccl" else values.contiguous()
    found = [torch.empty_like(here) for _ in range(world_size())]
    with _noticing():
        dist.all_gather(found, here)
    return [value.cpu() for value in found]


def all_reduce_sum(values: Tensor) -> Tensor:
    """Return the sum over ranks, which can be differentiated any number of times.

    Its gradient is the sum over ranks of their gradients: with the mean over ranks of losses in mind, each rank
    differentiates the sum of all losses by what it holds, and `average_gradients` divides.
    """
    found: Tensor = _Total.apply(values) if world_size() > 1 else values
    return found


class _Total(torch.autograd.Function):
    @staticmethod
    def forward(_: Any, values: Tensor) -> Tensor:
        return _sum(values)

    @staticmethod
    def backward(_: Any, *gradients: Tensor) -> Tensor:
        found: Tensor = _Total.apply(gradients[0])
        return found


def _sum(values: Tensor) -> Tensor:
    found = values.clone(memory_format=torch.contiguous_format)
    with _noticing():
        dist.all_reduce(found)
    return found


@contextmanager
def _noticing() -> Iterator[None]:
    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        raise LostRankError(str(error)) from error
