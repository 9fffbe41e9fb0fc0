"""One of the ranks of `test_distributed`: `python -m tests.gan_core.one_rank FOLDER` with torchrun's variables."""

import sys
from dataclasses import replace
from itertools import product
from pathlib import Path

import torch
from torch import Tensor

from gan_core.augmentation.augment import NONE
from gan_core.config import AugmentationConfig, NetworkConfig, TrainConfig
from gan_core.runtime.device import Arithmetic
from gan_core.runtime.distributed import all_reduce_mean, join_group, leave_group, rank, world_size
from gan_core.training.checkpoints import restore_checkpoint, save_checkpoint
from gan_core.training.instruments import Instruments
from gan_core.training.loop import train
from gan_core.training.state import TrainState, initial_state
from gan_core.training.steps import discriminator_step, generator_step
from tests.gan_core.examples import (
    ADAPTIVE,
    CLASSES,
    CONDITIONAL,
    CPU,
    DCGAN,
    IMAGES,
    NETWORKS,
    POLICY,
    TRAIN,
    batches,
    everything,
)

Case = tuple[NetworkConfig, TrainConfig, int, AugmentationConfig]

SLOW = replace(TRAIN, seed=3, generator_learning_rate=1e-3, discriminator_learning_rate=1e-3)
SEEDS = {("sngan", 2): 1}
"""By family and parts, else that of `SLOW`: no rectifier is so near its kink that rounding decides; R1 and R2 jump
there. If all weights are changed by 1e-7 of themselves, no case ends further away than 2e-5; with most other seeds
some do."""
TRAININGS = (
    replace(SLOW, loss="non_saturating"),
    replace(SLOW, loss="relativistic", generator_z="shared", wgan_gp=0.5),
)
LABELLED = replace(TRAIN, loss="relativistic", generator_z="shared", class_balance="uniform")
CASES: list[Case] = [
    *(
        (network, replace(training, seed=SEEDS.get((network.family, parts), SLOW.seed)), parts, NONE)
        for network, training, parts in product(NETWORKS, TRAININGS, (1, 2))
    ),
    (DCGAN, replace(TRAININGS[0], mirror=True), 2, POLICY),
    (DCGAN, replace(TRAININGS[1], mirror=True), 2, replace(ADAPTIVE, target=0.0)),
    (CONDITIONAL[1], LABELLED, 2, replace(ADAPTIVE, target=0.0)),
]
"""Both families, unpaired and paired, fresh and shared latents, with every penalty, whole and in parts; augmented, with
labels."""
BY_DIFFERENCES: list[Case] = [
    (*case, NONE) for case in product(NETWORKS[:2], (replace(SLOW, penalty_gradient="finite_difference"),), (1, 2))
]
"""Finite differences divide rounding by their distance, so of these only gradients are compared."""
HALF = TRAIN.steps // 2


def state_of_case(case: Case) -> TrainState:
    network, config, parts, augmentation = case
    arithmetic, classes = Arithmetic(bf16=False, micro_batches=parts), CLASSES if network.conditional else 0
    state = initial_state(config, network, IMAGES, arithmetic, augmentation=augmentation, classes=classes)
    state.augment_probability.fill_(0.5)
    return state


def gradients(case: Case) -> dict[str, Tensor]:
    """Return the gradients and losses of both first updates, and the statistics that these left."""
    tensors: dict[str, Tensor] = {}
    drawn = batches(state_of_case(case))
    updates = {
        "discriminator": (discriminator_step, drawn.discriminator(1, 0)),
        "generator": (generator_step, drawn.generator(1)),
    }
    for network_name, (step, batch) in updates.items():
        state = state_of_case(case)
        tensors[f"{network_name} loss"] = all_reduce_mean(step(state, batch))
        module = getattr(state, network_name)
        tensors |= {f"{network_name} {name}": parameter.grad for name, parameter in module.named_parameters()}
        tensors |= {f"{network_name} {name}": buffer for name, buffer in module.named_buffers()}
    return tensors


def trained(case: Case, folder: Path, checkpoint: str) -> dict[str, Tensor]:
    """Return everything after a training that leaves a checkpoint in the middle and is read as it goes."""
    state = state_of_case(case)
    labels = batches(state).labels
    instruments = Instruments(state, IMAGES, IMAGES, None if labels is None else (labels, labels))
    for report in train(state, batches(state)):
        if rank() == 0:
            instruments.read(state)
            if report.step == HALF:
                save_checkpoint(folder / checkpoint, state)
    return everything(state)


def resumed(case: Case, path: Path) -> dict[str, Tensor]:
    """Return everything after going on from a checkpoint to the end."""
    state = state_of_case(case)
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
