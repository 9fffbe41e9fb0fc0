"""One of the ranks of `test_distributed`: `python -m tests.gan_core.one_rank FOLDER` with torchrun's variables."""

import sys
from dataclasses import replace
from itertools import product
from pathlib import Path

import torch
from torch import Tensor

from gan_core.config import NetworkConfig, TrainConfig
from gan_core.runtime.device import Arithmetic
from gan_core.runtime.distributed import all_reduce_mean, join_group, leave_group, rank, world_size
from gan_core.training.checkpoints import restore_checkpoint, save_checkpoint
from gan_core.training.instruments import Instruments
from gan_core.training.loop import train
from gan_core.training.state import TrainState, initial_state
from gan_core.training.steps import discriminator_step, generator_step
from tests.gan_core.examples import CLASSES, CONDITIONAL, CPU, IMAGES, NETWORKS, TRAIN, batches, everything

TRAININGS = (
    replace(TRAIN, loss="non_saturating"),
    replace(TRAIN, loss="relativistic", generator_z="shared", wgan_gp=0.5),
)
LABELLED = replace(TRAIN, loss="relativistic", generator_z="shared", class_balance="uniform")
CASES = [*product(NETWORKS, TRAININGS, (1, 2)), (CONDITIONAL[1], LABELLED, 2)]
"""Both families, unpaired and paired, with fresh and shared latents, every penalty, whole and in parts; and labels."""
BY_DIFFERENCES = list(product(NETWORKS, (replace(TRAIN, penalty_gradient="finite_difference"),), (1, 2)))
"""Finite differences divide rounding by their distance, so of these only gradients are compared."""
HALF = TRAIN.steps // 2


def state_of_case(network: NetworkConfig, config: TrainConfig, parts: int) -> TrainState:
    classes = CLASSES if network.conditional else 0
    return initial_state(config, network, IMAGES, Arithmetic(bf16=False, micro_batches=parts), classes=classes)


def gradients(case: tuple[NetworkConfig, TrainConfig, int]) -> dict[str, Tensor]:
    """Return the gradients and losses of both first updates, and the statistics that these left."""
    network, config, parts = case
    tensors: dict[str, Tensor] = {}
    drawn = batches(state_of_case(network, config, parts))
    updates = {
        "discriminator": (discriminator_step, drawn.discriminator(1, 0)),
        "generator": (generator_step, drawn.generator(1)),
    }
    for network_name, (step, batch) in updates.items():
        state = state_of_case(network, config, parts)
        tensors[f"{network_name} loss"] = all_reduce_mean(step(state, batch))
        module = getattr(state, network_name)
        tensors |= {f"{network_name} {name}": parameter.grad for name, parameter in module.named_parameters()}
        tensors |= {f"{network_name} {name}": buffer for name, buffer in module.named_buffers()}
    return tensors


def trained(case: tuple[NetworkConfig, TrainConfig, int], folder: Path, checkpoint: str) -> dict[str, Tensor]:
    """Return everything after a training that leaves a checkpoint in the middle and is read as it goes."""
    network, config, parts = case
    state = state_of_case(network, config, parts)
    labels = batches(state).labels
    instruments = Instruments(state, IMAGES, IMAGES, None if labels is None else (labels, labels))
    for report in train(state, batches(state)):
        if rank() == 0:
            instruments.read(state)
            if report.step == HALF:
                save_checkpoint(folder / checkpoint, state)
    return everything(state)


def resumed(case: tuple[NetworkConfig, TrainConfig, int], path: Path) -> dict[str, Tensor]:
    """Return everything after going on from a checkpoint to the end."""
    network, config, parts = case
    state = state_of_case(network, config, parts)
    restore_checkpoint(path, state)
    list(train(state, batches(state)))
    return everything(state)


def main(folder: Path) -> None:
    """Train all cases and save what this rank holds."""
    torch.set_num_threads(1)
    join_group(CPU, f"file://{folder}/meeting")
    results = []
    for number, case in enumerate(CASES):
        whole = trained(case, folder, f"two-{number}.safetensors")
        again = {name: resumed(case, folder / f"{name}-{number}.safetensors") for name in ("one", "two")}
        results.append({"gradients": gradients(case), "whole": whole, **again})
    results += [{"gradients": gradients(case)} for case in BY_DIFFERENCES]
    torch.save(results, folder / f"rank-{rank()}.pt")
    assert world_size() == 2
    leave_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
