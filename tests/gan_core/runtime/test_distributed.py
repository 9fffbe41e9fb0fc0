"""Two ranks train as one process does; their cases are those of `tests.gan_core.one_rank`."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from gan_core.losses.penalties import DISTANCE
from gan_core.runtime.distributed import (
    all_gather,
    all_reduce_mean,
    all_reduce_sum,
    local_only,
    rank,
    shard,
    world_size,
)
from tests.gan_core.examples import same_bits
from tests.gan_core.one_rank import BY_DIFFERENCES, CASES, gradients, resumed, trained

Cases = list[dict[str, dict[str, Tensor]]]
ROOT = Path(__file__).parents[3]
cases = pytest.mark.parametrize(
    "number",
    range(len(CASES)),
    ids=[
        f"{network.family}-{train.loss}-{parts}-{kind.kind}{'-labels' * network.conditional}"
        for network, train, parts, kind in CASES
    ],
)
ROUNDING = 1e-4
"""Of a tensor's largest number. Adam divides a gradient by its size, so where parts cancel to nearly nothing a weight
moves by their rounding: six steps make up to 2e-5 of the sums' 1e-7, and longer trainings drift further apart."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("ranks")


@pytest.fixture(scope="module")
def alone(folder: Path) -> list[dict[str, Tensor]]:
    """Return what one process holds after each case; its checkpoints are for the ranks to go on from."""
    return [trained(case, folder, f"one-{number}.safetensors") for number, case in enumerate(CASES)]


@pytest.fixture(scope="module")
def ranks(folder: Path, alone: list[dict[str, Tensor]]) -> list[Cases]:
    """Return what each of two ranks holds after each case."""
    command = [sys.executable, "-W", "error", "-m", "tests.gan_core.one_rank", str(folder)]
    variables = os.environ | {"WORLD_SIZE": "2", "GLOO_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": "1"}
    processes = [subprocess.Popen(command, cwd=ROOT, env=variables | {"RANK": str(rank)}) for rank in range(2)]
    assert [process.wait() for process in processes] == [0, 0]
    return [torch.load(folder / f"rank-{rank}.pt") for rank in range(2)]


def distance(tensors: dict[str, Tensor], expected: dict[str, Tensor], least: float = 1e-30) -> float:
    """Return the largest difference relative to the largest number of its tensor, or to `least`."""
    assert tensors.keys() == expected.keys()
    pairs = [(tensors[name].double(), tensor.double()) for name, tensor in expected.items()]
    return max(float((one - other).abs().max() / other.abs().max().clamp(min=least)) for one, other in pairs)


@cases
def test_gradients_losses_and_statistics_are_those_of_the_whole_batch(ranks: list[Cases], number: int) -> None:
    """A bias whose parts of order 1/2 cancel to 0.003 keeps their error of 1e-7, so small tensors count as 0.01.

    SNGAN's residual blocks round to 1.1e-5, the other families to 1e-6; a rank's rows left out are 0.1 and more.
    """
    assert distance(ranks[0][number]["gradients"], gradients(CASES[number]), least=0.01) < 2e-5


def test_finite_differences_are_those_of_the_whole_batch_up_to_their_rounding(ranks: list[Cases]) -> None:
    for number, case in enumerate(BY_DIFFERENCES, start=len(CASES)):
        first, second = (held[number]["gradients"] for held in ranks)
        assert same_bits(first, second)
        assert distance(first, gradients(case), least=0.01) < 1e-5 / DISTANCE


@cases
def test_every_rank_holds_the_same_bits(ranks: list[Cases], number: int) -> None:
    first, second = (held[number] for held in ranks)
    for what in ("gradients", "whole", "one", "two"):
        assert same_bits(first[what], second[what])


@cases
def test_ranks_end_where_one_process_ends(ranks: list[Cases], alone: list[dict[str, Tensor]], number: int) -> None:
    assert distance(ranks[0][number]["whole"], alone[number]) < ROUNDING


@cases
def test_as_many_ranks_go_on_bit_for_bit(ranks: list[Cases], number: int) -> None:
    held = ranks[0][number]
    assert same_bits(held["two"], held["whole"])


@cases
def test_another_number_goes_on_up_to_rounding(
    ranks: list[Cases], alone: list[dict[str, Tensor]], folder: Path, number: int
) -> None:
    assert distance(ranks[0][number]["one"], alone[number]) < ROUNDING
    assert distance(resumed(CASES[number], folder / f"two-{number}.safetensors"), alone[number]) < ROUNDING


def test_alone_everything_is_the_identity() -> None:
    values = torch.arange(6.0)
    results: list[Any] = [shard(values), all_reduce_mean(values), all_reduce_sum(values), all_gather(values)[0]]
    assert all(one is values for one in results)
    with local_only():
        assert (world_size(), rank()) == (1, 0)
