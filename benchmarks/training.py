"""Training throughput beside the loop of pytorch/examples `dcgan`: the same networks, batch and images.

`python -m benchmarks training [ROUNDS]`. Ours is the whole stage `train` in a process of its own: data, average,
instruments, history, grids, checkpoints and MLflow. The peer has the same layers, one after the other as torch has
them. On a CPU with 28 pixels and all cores, on a GPU with 28, 32 and 64 pixels, beside a bare step.
"""

import json
import os
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.harness.game import TRAIN
from benchmarks.harness.images import prepared_images
from benchmarks.harness.rounds import in_own_process, in_turns, ratio
from benchmarks.harness.tables import Table
from gan_core.augmentation.augment import NONE
from gan_core.config import ComputeConfig, DcganConfig, ExecutionConfig, NetworkConfig
from gan_core.networks.build import build_discriminator, build_generator
from gan_core.networks.dcgan import DcganDiscriminator, DcganGenerator
from mlops.project import params
from mlops.project.prepared_data import load_images
from stages.train import train

ROOT = Path(__file__).resolve().parent.parent
IMAGES = 10_000
PEER = "pytorch/examples, 2 loader workers"


@dataclass(frozen=True)
class Pair:
    """A convolutional pair and how long it is measured."""

    size: int
    channels: int
    network: NetworkConfig
    batch_size: int
    steps: int
    peer_steps: int


def dcgan(generator_width: int, discriminator_width: int) -> NetworkConfig:
    """Return a convolutional pair with 100 latent dimensions."""
    return DcganConfig("dcgan", 100, "normal", generator_width, discriminator_width, conditional=False)


ON_CPU = [Pair(28, 1, dcgan(48, 64), 64, 400, 150)]
ON_GPU = [
    Pair(28, 1, dcgan(46, 68), 64, 12_000, 300),
    Pair(32, 3, dcgan(64, 64), 64, 12_000, 300),
    Pair(64, 3, dcgan(64, 64), 128, 4_000, 300),
]
Z = Literal["shared", "fresh"]
"""The latents of the generator's step: those of the discriminator's step, or new ones."""
Ways = dict[str, Callable[[], float]]
"""Images per second by the name of the loop."""


def table(rounds: str = "7") -> Table:
    """Measure every loop in turn, round after round."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    pairs = ON_GPU if device.type == "cuda" else ON_CPU
    rows: list[tuple[str, ...]] = []
    for pair in pairs:
        with TemporaryDirectory() as name:
            folder = Path(name)
            prepared_images(folder / "prepared", IMAGES, size=pair.size, channels=pair.channels)
            rows += compared(pair, ways(pair, folder, device), int(rounds))
    where = torch.cuda.get_device_name() if device.type == "cuda" else f"{torch.get_num_threads()} threads of the CPU"
    words = (
        "Ours is the whole stage `train`, from its first step to its last, with a report every 100 steps; the peer is "
        f"timed after {WARM_UP} steps. Both updates of its step use the same z, as in ours with `shared`; with "
        f"`fresh`, as in Algorithm 1, the generator runs twice a step. Medians of {rounds} rounds on {where}; "
        "`relative` is the median over rounds of the ratio to the peer with its 2 loader workers."
    )
    return Table("training beside pytorch/examples", COLUMNS, tuple(rows), words)


COLUMNS = ("loop", "pixels", "batch", "images per second", "relative", "share of the bare step")
WARM_UP = 20


def compared(pair: Pair, loops: Ways, rounds: int) -> list[tuple[str, ...]]:
    """Return the rows of a pair."""
    speeds = in_turns(f"{pair.size} pixels", loops, rounds)
    rows: list[tuple[str, ...]] = []
    for name, by_round in speeds.items():
        limit = BARE.format(precision=name.split()[-1])
        share = f"{ratio(speeds, name, limit):.3f}" if limit in speeds and "ours" in name else ""
        relative = f"{ratio(speeds, name, PEER):.2f}"
        rows.append((name, f"{pair.size}", f"{pair.batch_size}", f"{median(by_round):,.0f}", relative, share))
    return rows


OURS = "ours, {z} z, {precision}"
BARE = "bare step, one graph, {precision}"


def ways(pair: Pair, folder: Path, device: torch.device) -> Ways:
    """Return the loops to compare."""
    pixels = torch.from_numpy(np.ascontiguousarray(load_images(folder / "prepared", "train")))
    loops: Ways = {
        PEER: lambda: peer(pair, pixels, 2, device),
        "pytorch/examples, no loader workers": lambda: peer(pair, pixels, 0, device),
    }
    for precision in ("fp32", "bf16"):
        for z in get_args(Z):
            loops[OURS.format(z=z, precision=precision)] = partial(in_own_process, ours, pair, folder, precision, z)
    if device.type == "cuda":
        loops |= {
            "bare step, launch by launch, fp32": lambda: bare(pair, bf16=False, compiled=False, captured=False),
            BARE.format(precision="fp32"): lambda: bare(pair, bf16=False, compiled=False, captured=True),
            BARE.format(precision="bf16"): lambda: bare(pair, bf16=True, compiled=False, captured=True),
            "bare step, compiled, one graph, bf16": lambda: bare(pair, bf16=True, compiled=True, captured=True),
        }
    return loops


def peer(pair: Pair, pixels: Tensor, workers: int, device: torch.device) -> float:
    """Return the images per second of the peer's loop."""
    from benchmarks.peers.pytorch_dcgan import peer_speed

    build = {"size": pair.size, "channels": pair.channels, "seed": 0}
    discriminator, generator = build_discriminator(pair.network, **build), build_generator(pair.network, **build)
    assert isinstance(discriminator, DcganDiscriminator)
    assert isinstance(generator, DcganGenerator)
    torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic = True, False  # as the peer has it
    try:
        return peer_speed(
            nn.Sequential(discriminator.layers, nn.Flatten(), discriminator.logit, nn.Flatten(0)),
            nn.Sequential(generator.project, nn.Unflatten(1, generator.base), generator.layers),
            pixels,
            z_dim=pair.network.z_dim,
            batch_size=pair.batch_size,
            steps=pair.peer_steps,
            warm_up=WARM_UP,
            workers=workers,
            device=device,
        )
    finally:
        torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic = False, True


def bare(pair: Pair, *, bf16: bool, compiled: bool, captured: bool) -> float:
    """Return the images per second of the bare step."""
    from benchmarks.peers.bare_step import bare_milliseconds

    milliseconds = bare_milliseconds(
        pair.network,
        size=pair.size,
        channels=pair.channels,
        batch_size=pair.batch_size,
        bf16=bf16,
        compiled=compiled,
        captured=captured,
    )
    return pair.batch_size * 1e3 / milliseconds


def ours(pair: Pair, folder: Path, precision: str, generator_z: Z) -> float:
    """Return the images per second that the stage `train` reports."""
    committed = params.load(ROOT / "params.yaml")
    config = replace(TRAIN, steps=pair.steps, batch_size=pair.batch_size, generator_z=generator_z)
    with TemporaryDirectory(dir=folder) as name, (folder / "log").open("w") as log:
        os.environ |= {"DVC_ROOT": name, "MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db"}
        with redirect_stdout(log), redirect_stderr(log):
            train(
                folder / "prepared",
                Path(name) / "snapshots",
                Path(name) / "training",
                compute=ComputeConfig("auto", os.cpu_count() or 1),
                execution=ExecutionConfig(precision, 1, 1),  # type: ignore[arg-type]
                network=pair.network,
                augmentation=NONE,
                train=config,
                doctor=committed.doctor,
            )
        speed: float = json.loads((Path(name) / "training" / "speed.json").read_text())["images_per_second"]
    return speed
