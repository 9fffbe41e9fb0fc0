"""All of a training's state as one file, from which it resumes bit for bit."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from gan_core.runtime.tensor_files import load_tensors, save_tensors
from gan_core.training.state import TrainState

NUMBERS = ("first_non_finite_step", "augment_probability")
"""Scalars of a state, on its device."""


class CheckpointMismatchError(ValueError):
    """A checkpoint was made under other parameters than those of the run that resumes from it."""


def save_checkpoint(path: Path, state: TrainState) -> None:
    """Write all of a training's state, between two steps, and the parameters that a resumed run must share."""
    tensors = {name: getattr(state, name) for name in NUMBERS}
    for part in ("discriminator", "generator", "ema_generator"):
        tensors |= {f"{part}/{name}": tensor for name, tensor in getattr(state, part).state_dict().items()}
    for part in ("d_optimizer", "g_optimizer"):
        tensors |= {f"{part}/{name}": tensor for name, tensor in _moments(getattr(state, part)).items()}
    save_tensors(path, tensors, {"step": state.step, "parameters": _parameters(state)})


def restore_checkpoint(path: Path, state: TrainState) -> None:
    """Put a checkpoint into a fresh state, in place, which then continues bit for bit.

    If it was made under other parameters, CheckpointMismatchError lists each difference.
    """
    tensors, metadata = load_tensors(path)
    _check_parameters(path, metadata["parameters"], _parameters(state))
    for part in ("discriminator", "generator", "ema_generator"):
        getattr(state, part).load_state_dict(_below(part, tensors))
    for part in ("d_optimizer", "g_optimizer"):
        _restore_moments(getattr(state, part), _below(part, tensors))
    for name in NUMBERS:
        getattr(state, name).copy_(tensors[name])
    state.step = metadata["step"]


def _parameters(state: TrainState) -> dict[str, Any]:
    configs = {"train": state.config, "network": state.network, "augmentation": state.augmentation}
    sections = {name: asdict(config) for name, config in (configs | {"arithmetic": state.arithmetic}).items()}
    return {f"{section}.{key}": value for section, values in sections.items() for key, value in values.items()}


def _check_parameters(path: Path, before: dict[str, Any], now: dict[str, Any]) -> None:
    different = [key for key in sorted(before.keys() | now.keys()) if before.get(key) != now.get(key)]
    if different:
        listed = ", ".join(f"{key} was {before.get(key)} and is {now.get(key)}" for key in different)
        raise CheckpointMismatchError(f"{path} was made under other parameters ({listed}); delete it or restore them")


def _moments(optimizer: Optimizer) -> dict[str, Tensor]:
    state = optimizer.state_dict()["state"]
    return {f"{index}/{name}": value for index, values in state.items() for name, value in values.items()}


def _restore_moments(optimizer: Optimizer, moments: dict[str, Tensor]) -> None:
    (group,) = optimizer.param_groups
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in moments.items():
        index, moment = name.split("/")
        parameter = group["params"][int(index)]
        if value.dim():  # in the order of the parameter's memory, which fused optimizers assume
            value = torch.empty_like(parameter, device="cpu").copy_(value)
        state.setdefault(int(index), {})[moment] = value
    optimizer.load_state_dict(optimizer.state_dict() | {"state": state})


def _below(part: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(f"{part}/"): value for name, value in tensors.items() if name.startswith(f"{part}/")}
