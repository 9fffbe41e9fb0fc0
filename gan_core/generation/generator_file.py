"""Generators as files from which they can be built again."""

from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, NamedTuple, get_args

from torch import nn

from gan_core.config import NetworkConfig
from gan_core.networks.build import FAMILIES, build_generator
from gan_core.runtime.tensor_files import load_tensors, save_tensors


class LoadedGenerator(NamedTuple):
    """A generator, its configuration, and the names of its classes in label order; none if it takes no labels."""

    network: nn.Module
    config: NetworkConfig
    classes: tuple[str, ...]


def save_generator(
    path: Path,
    generator: nn.Module,
    network: NetworkConfig,
    *,
    size: int,
    channels: int,
    classes: Sequence[str] = (),
) -> None:
    """Write a generator's state, buffers included, and what is needed to build it again.

    `size` is in pixels; a conditional generator has the names of its `classes`, in label order.
    """
    written = {name: value for name, value in asdict(network).items() if name != "conditional"}
    metadata = {"network": written, "size": size, "channels": channels}
    labelled = {"classes": list(classes)} if network.conditional else {}  # older files, which take none, lack the key
    save_tensors(path, dict(generator.state_dict()), metadata | labelled)


def load_generator(path: Path) -> LoadedGenerator:
    """Return the generator of a file, on the CPU and in evaluation mode."""
    tensors, metadata = load_tensors(path)
    classes = tuple(metadata.get("classes", ()))
    network = _network_config(metadata["network"] | {"conditional": bool(classes)})
    shape = {"size": metadata["size"], "channels": metadata["channels"]}
    generator = build_generator(network, **shape, classes=len(classes), seed=0)
    generator.load_state_dict(tensors)
    return LoadedGenerator(generator.eval(), network, classes)


def _network_config(values: dict[str, Any]) -> NetworkConfig:
    """Return the configuration of a family, without keys of other families, which older files hold."""
    (kind,) = (kind for kind in FAMILIES if values["family"] in get_args(kind.__annotations__["family"]))
    network: NetworkConfig = kind(**{field.name: values[field.name] for field in fields(kind)})
    return network
