"""Named tensors as safetensors, written atomically: a reader finds the whole old file or the whole new one."""

import json
import os
from pathlib import Path
from typing import Any

from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file so that after a crash at any moment `path` holds either its old content or all of the new one.

    The folder exists. After an OSError, of a full disk or a folder that cannot be written, the old file is still there.
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
    """Write named tensors and JSON metadata as one safetensors file, atomically; equal content gives equal bytes."""
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    write_atomically(path, save(plain, {"equilibrium": json.dumps(metadata, sort_keys=True)}))


def load_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return the tensors, on the CPU, and the metadata that `save_tensors` wrote; nothing is unpickled."""
    with safe_open(path, framework="pt") as file:
        metadata = json.loads(file.metadata()["equilibrium"])
        return {name: file.get_tensor(name) for name in file.keys()}, metadata  # noqa: SIM118  # safe_open is no mapping
