"""All of a training's state as one file, from which it resumes bit for bit.

The file is safetensors and carries its own checksum: its metadata hold, as `sha256`, that of the file's bytes with
zeros in place of these 64 digits. One rename so puts state and checksum in place together, and no byte, of header or
tensors, can change unnoticed.
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from safetensors.torch import save
from torch import Tensor

from gan_core.runtime.tensor_files import load_tensors, write_atomically
from gan_core.training.state import TrainState

NUMBERS = ("first_non_finite_step", "augment_probability")
"""Scalars of a state, on its device."""
_ZEROS = b"0" * 64
_BEFORE = rb"\"sha256\": \""
"""What stands before the checksum in the header: JSON in a string of JSON."""


class CheckpointError(ValueError):
    """A training cannot be resumed from a checkpoint; the message begins with a path."""


class CheckpointMismatchError(CheckpointError):
    """A checkpoint was made under other parameters than those of the run that resumes from it."""


def save_checkpoint(path: Path, state: TrainState, record: Mapping[str, Any] | None = None) -> None:
    """Write all of a training's state, between two steps, and the parameters that a resumed run must share.

    `record` is JSON that the caller wants back, without a key `sha256`.
    """
    tensors = {name: getattr(state, name) for name in NUMBERS}
    for part in ("discriminator", "generator", "ema_generator"):
        tensors |= {f"{part}/{name}": tensor for name, tensor in getattr(state, part).state_dict().items()}
    for part in ("d_optimizer", "g_optimizer"):
        tensors |= {f"{part}/{name}": tensor for name, tensor in getattr(state, part).tensors().items()}
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    metadata = {"step": state.step, "parameters": _parameters(state), "record": dict(record or {})}
    text = json.dumps(metadata | {"sha256": _ZEROS.decode()}, sort_keys=True)
    content = save(plain, {"equilibrium": text})
    digest = hashlib.sha256(content).hexdigest().encode()
    write_atomically(path, content.replace(_BEFORE + _ZEROS, _BEFORE + digest, 1))


def checkpoint_metadata(path: Path) -> dict[str, Any]:
    """Return step, parameters and record of a checkpoint, whose bytes are those that were written.

    If they are not, or there is no such file, that is a CheckpointError.
    """
    return _verified(path)[1]


def restore_checkpoint(path: Path, state: TrainState, check: Callable[[dict[str, Any]], object] = bool) -> None:
    """Put a checkpoint into a fresh state, in place, which then continues bit for bit.

    If its bytes are not those that were written, that is a CheckpointError; if it was made under other parameters,
    CheckpointMismatchError lists each difference. `check` is called with its record, and may raise an error of its own.
    In all these cases the state is as it was.
    """
    tensors, metadata = _verified(path)
    _check_parameters(path, metadata["parameters"], _parameters(state))
    check(metadata["record"])
    for part in ("discriminator", "generator", "ema_generator"):
        getattr(state, part).load_state_dict(_below(part, tensors))
    for part in ("d_optimizer", "g_optimizer"):
        for name, place in getattr(state, part).tensors().items():
            place.copy_(tensors[f"{part}/{name}"])
    for name in NUMBERS:
        getattr(state, name).copy_(tensors[name])
    state.step = metadata["step"]


def _verified(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return tensors and metadata of a checkpoint after its checksum was compared."""
    try:
        content = path.read_bytes() if path.is_file() else b""
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read ({error.strerror})") from None
    start = content.find(_BEFORE) + len(_BEFORE)
    digest = hashlib.sha256(memoryview(content)[:start])
    digest.update(_ZEROS)
    digest.update(memoryview(content)[start + len(_ZEROS) :])
    if digest.hexdigest().encode() != content[start : start + len(_ZEROS)]:
        raise CheckpointError(f"{path} is damaged: its bytes are not those that were written")
    return load_tensors(path)


def _parameters(state: TrainState) -> dict[str, Any]:
    configs = {"train": state.config, "network": state.network, "augmentation": state.augmentation}
    sections = {name: asdict(config) for name, config in (configs | {"arithmetic": state.arithmetic}).items()}
    return {f"{section}.{key}": value for section, values in sections.items() for key, value in values.items()}


def _check_parameters(path: Path, before: dict[str, Any], now: dict[str, Any]) -> None:
    different = [key for key in sorted(before.keys() | now.keys()) if before.get(key) != now.get(key)]
    if different:
        listed = ", ".join(f"{key} was {before.get(key)} and is {now.get(key)}" for key in different)
        raise CheckpointMismatchError(f"{path} was made under other parameters ({listed}); delete it or restore them")


def _below(part: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(f"{part}/"): value for name, value in tensors.items() if name.startswith(f"{part}/")}
