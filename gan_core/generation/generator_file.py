"""Generators as files from which they can be built again."""

from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, get_args

from torch import nn

from gan_core.config import NetworkConfig
from gan_core.networks.build import FAMILIES, build_generator
from gan_core.runtime.tensor_files import load_tensors, save_tensors


def save_generator(path: Path, generator: nn.Module, network: NetworkConfig, *, size: int, channels: int) -> None:
    """Write a generator's state, buffers included, and what is needed to build it again; `size` is in pixels."""
    metadata = {"network": asdict(network), "size": size, "channels": channels}
    save_tensors(path, dict(generator.state_dict()), metadata)


def load_generator(path: Path) -> tuple[nn.Module, NetworkConfig]:
    """Return the generator of a file, on the CPU and in evaluation mode, and its configuration."""
    tensors, metadata = load_tensors(path)
    network = _network_config(metadata["network"])
    generator = build_generator(network, size=metadata["size"], channels=metadata["channels"], seed=0)
    generator.load_state_dict(tensors)
    return generator.eval(), network


def _network_config(values: dict[str, Any]) -> NetworkConfig:
    """Return the configuration of a family, without keys of other families, which older files hold."""
    (kind,) = (kind for kind in FAMILIES if values["family"] in get_args(kind.__annotations__["family"]))
    network: NetworkConfig = kind(**{field.name: values[field.name] for field in fields(kind)})
    return network
