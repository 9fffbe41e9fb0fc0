"""What a run costs on this machine: seconds, from a few steps that are measured, and bytes."""

import time
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from statistics import median

import torch

from gan_core.config import TrainConfig
from gan_core.training.instruments import Instruments
from gan_core.training.state import TrainState, initial_state
from mlops.project.params import Params
from mlops.runs.run import TrainingRun

WARM_UP = 5
"""Steps that are not measured: caches and memory are filled, a GPU may be captured."""
MEASURED, SECONDS = 200, 3.0
"""Most steps that are measured, and seconds after which it ends."""
COPIES = 2
"""Of each output: in its place and in DVC's cache."""


@dataclass(frozen=True)
class Cost:
    """Of a training: seconds of one step and of all with their readings; bytes of all that a run writes."""

    step: float
    training: float
    disk: int


def cost(prepared: Path, params: Params) -> Cost:
    """Measure some steps of the training that `params.yaml` asks for, whose results are thrown away."""
    run = TrainingRun("train", prepared, params.compute, params.execution, params.network)
    execution, config = run.execution, params.train
    state = initial_state(config, params.network, run.images, execution.arithmetic, execution.device)
    step, reading = _measured(run, state, config)
    seconds = config.steps * step + config.steps / config.report_every * reading
    return Cost(step, seconds, COPIES * _bytes(prepared) + _checkpoint_bytes(state))


def _measured(run: TrainingRun, state: TrainState, config: TrainConfig) -> tuple[float, float]:
    """Return the median seconds of a step, and those of reading the instruments."""
    times, started = list[float](), 0.0
    for report in islice(run.steps(state), WARM_UP + MEASURED):
        report.d_loss.item()  # waits for the device
        now = time.perf_counter()
        if report.step > WARM_UP:
            times.append(now - started)
        started = now
        if sum(times) > SECONDS:
            break
    instruments = Instruments(state, run.images, run.unseen)
    instruments.read(state)
    started = time.perf_counter()
    instruments.read(state)
    return median(times or [0.0]), time.perf_counter() - started


def _bytes(prepared: Path) -> int:
    """Return the bytes of prepared images, and of the originals beside them."""
    folders = (prepared, prepared.parent / "raw")
    return sum(path.stat().st_size for folder in folders for path in folder.rglob("*") if path.is_file())


def _checkpoint_bytes(state: TrainState) -> int:
    """Return the bytes of networks and averages and of both of Adam's moments, twice while one replaces another."""
    networks = (state.generator, state.ema_generator, state.discriminator)
    weights = [sum(p.numel() for p in network.parameters()) * torch.float32.itemsize for network in networks]
    return 2 * (sum(weights) + 2 * (weights[0] + weights[2]))
