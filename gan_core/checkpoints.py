"""Weights and checkpoints as safetensors, written atomically: a reader sees the old file or the new one, whole."""

import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor, nn
from torch.optim import Optimizer

from gan_core.config import NetworkConfig, TrainConfig
from gan_core.networks import build_generator
from gan_core.training import TrainState


class CheckpointMismatchError(ValueError):
    """A checkpoint was made under other parameters than those of the run that wants to go on from it."""


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file so that after a crash at any moment `path` holds either its old content or all of the new one.

    Args:
        path: the file; its folder exists.
        content: all of it.

    Raises:
        OSError: the disk is full or the folder cannot be written; the old file is still there.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def save_tensors(path: Path, tensors: dict[str, Tensor], metadata: dict[str, Any]) -> None:
    """Write named tensors and JSON metadata as one safetensors file, atomically; the same content gives the same bytes.

    Args:
        path: the file; its folder exists.
        tensors: any device, any shape.
        metadata: what JSON can hold; stored under one key.
    """
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    write_atomically(path, save(plain, {"equilibrium": json.dumps(metadata, sort_keys=True)}))


def load_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return the tensors, on the CPU, and the metadata that `save_tensors` wrote; nothing is unpickled."""
    with safe_open(path, framework="pt") as file:
        metadata = json.loads(file.metadata()["equilibrium"])
        return {name: file.get_tensor(name) for name in file.keys()}, metadata  # noqa: SIM118  # it is no mapping


def save_generator(path: Path, generator: nn.Module, network: NetworkConfig, *, size: int, channels: int) -> None:
    """Write a generator with what is needed to build it again.

    Args:
        path: the file; its folder exists.
        generator: its state is written, buffers included.
        network: family, latent space and widths.
        size: side of the images in pixels.
        channels: 1 or 3.
    """
    metadata = {"network": asdict(network), "size": size, "channels": channels}
    save_tensors(path, dict(generator.state_dict()), metadata)


def load_generator(path: Path) -> tuple[nn.Module, NetworkConfig]:
    """Return the generator of a file, on the CPU and in evaluation mode, and its configuration."""
    tensors, metadata = load_tensors(path)
    network = NetworkConfig(**metadata["network"])
    generator = build_generator(network, size=metadata["size"], channels=metadata["channels"], seed=0)
    generator.load_state_dict(tensors)
    return generator.eval(), network


def save_checkpoint(path: Path, state: TrainState, config: TrainConfig) -> None:
    """Write all of a training's state, and under which parameters it came to be.

    Args:
        path: the file; its folder exists.
        state: as it is when `train` has yielded a report.
        config: with the network's, what a run that goes on from here must share.
    """
    tensors = {"first_non_finite_step": state.first_non_finite_step}
    for part in ("discriminator", "generator", "ema_generator"):
        tensors |= {f"{part}/{name}": tensor for name, tensor in getattr(state, part).state_dict().items()}
    for part in ("d_optimizer", "g_optimizer"):
        tensors |= {f"{part}/{name}": tensor for name, tensor in _moments(getattr(state, part)).items()}
    save_tensors(path, tensors, {"step": state.step, "parameters": _parameters(config, state.network)})


def restore_checkpoint(path: Path, state: TrainState, config: TrainConfig) -> None:
    """Put a checkpoint into a fresh state, which then continues bit for bit.

    Args:
        path: what `save_checkpoint` wrote.
        state: as `initial_state` returns it; changed in place.
        config: must equal that of the checkpoint.

    Raises:
        CheckpointMismatchError: it was made under other parameters; the message lists each difference.
    """
    tensors, metadata = load_tensors(path)
    _refuse_other_parameters(path, metadata["parameters"], _parameters(config, state.network))
    for part in ("discriminator", "generator", "ema_generator"):
        getattr(state, part).load_state_dict(_below(part, tensors))
    for part in ("d_optimizer", "g_optimizer"):
        _restore_moments(getattr(state, part), _below(part, tensors))
    state.first_non_finite_step.copy_(tensors["first_non_finite_step"])
    state.step = metadata["step"]


def _parameters(config: TrainConfig, network: NetworkConfig) -> dict[str, Any]:
    sections = {"train": asdict(config), "network": asdict(network)}
    return {f"{section}.{key}": value for section, values in sections.items() for key, value in values.items()}


def _refuse_other_parameters(path: Path, found: dict[str, Any], wanted: dict[str, Any]) -> None:
    keys = sorted(found.keys() | wanted.keys())
    different = [key for key in keys if found.get(key) != wanted.get(key)]
    if different:
        listed = ", ".join(f"{key} was {found.get(key)} and is {wanted.get(key)}" for key in different)
        raise CheckpointMismatchError(f"{path} was made under other parameters ({listed}); delete it or restore them")


def _moments(optimizer: Optimizer) -> dict[str, Tensor]:
    state = optimizer.state_dict()["state"]
    return {f"{index}/{name}": value for index, values in state.items() for name, value in values.items()}


def _restore_moments(optimizer: Optimizer, moments: dict[str, Tensor]) -> None:
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in moments.items():
        index, moment = name.split("/")
        state.setdefault(int(index), {})[moment] = value
    optimizer.load_state_dict(optimizer.state_dict() | {"state": state})


def _below(part: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(f"{part}/"): value for name, value in tensors.items() if name.startswith(f"{part}/")}
