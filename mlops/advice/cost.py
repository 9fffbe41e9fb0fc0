"""What a run costs on this machine: seconds, from a few steps that are measured, and bytes."""

import time
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from statistics import median

import torch

from gan_core.config import TrainConfig
from gan_core.metrics.efficientnet import EfficientNetLite0
from gan_core.training.state import TrainState
from mlops.project.params import Params
from mlops.runs.run import TrainingRun

WARM_UP = 5
"""Steps that are not measured: caches and memory are filled, a GPU may be captured."""
MEASURED, SECONDS = 200, 3.0
"""Most steps that are measured, and seconds after which it ends."""
REST = 60.0
"""Seconds of all else in a run: data, start of each stage, statistics and figures."""
COPIES = 2
"""Of each output: in its place and in DVC's cache."""


@dataclass(frozen=True)
class Cost:
    """Seconds of one step, of the training and its replicas, and of extracting features; bytes that a run writes.

    Only EfficientNet-Lite0's features are counted: a small classifier's take little, Inception's are seldom asked for.
    """

    step: float
    training: float
    features: float
    disk: int

    @property
    def whole(self) -> float:
        """Seconds of a whole run."""
        return self.training + self.features + REST


def cost(prepared: Path, params: Params) -> Cost:
    """Measure some steps of the training that `params.yaml` asks for, whose results are thrown away."""
    run = TrainingRun("train", prepared, params.compute, params.execution, params.network, params.augmentation)
    config, state = params.train, run.initial_state(params.train)
    step, reading = _measured(run, state, config)
    seeds = params.replicate.seeds
    seconds = (1 + seeds) * (config.steps * step + config.steps / config.report_every * reading)
    disk = COPIES * _bytes(prepared) + _checkpoint_bytes(state, seeds) + _snapshot_bytes(state, seeds)
    return Cost(step, seconds, _features(params, run), disk)


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
    instruments = run.instruments(state)
    instruments.read(state)
    started = time.perf_counter()
    instruments.read(state)
    return median(times or [0.0]), time.perf_counter() - started


def _features(params: Params, run: TrainingRun) -> float:
    """Return the seconds in which the features of real, generated, trivial and noise images are extracted."""
    of_folder = params.extractor.kind == "auto" and params.data.name == "folder"
    if not of_folder and params.extractor.kind != "efficientnet-lite0":
        return 0.0
    scored = min(run.summary.test, params.evaluate.max_images)
    sets, seeds = params.evaluate.banks * (1 + params.replicate.seeds) + 2, params.replicate.seeds
    compared = len(params.train.snapshot_steps) * (1 + (seeds if params.choose.checkpoint == "best" else 0))
    network, batch = EfficientNetLite0().to(run.execution.device).eval(), run.images[: params.extractor.batch_size]
    pixels = batch.to(run.execution.device).expand(-1, 3, -1, -1)
    times = []
    with torch.no_grad():
        for _ in range(3):
            started = time.perf_counter()
            network(pixels)[0].sum().item()
            times.append((time.perf_counter() - started) / len(pixels))
    return min(times) * (run.summary.train + run.summary.test + compared * params.choose.images + sets * scored)


def _bytes(prepared: Path) -> int:
    """Return the bytes of prepared images, and of the originals beside them."""
    folders = (prepared, prepared.parent / "raw")
    return sum(path.stat().st_size for folder in folders for path in folder.rglob("*") if path.is_file())


def _snapshot_bytes(state: TrainState, seeds: int) -> int:
    """Return the bytes of all averaged generators that are kept, as outputs and till the end beside a checkpoint."""
    one: int = sum(tensor.nbytes for tensor in state.ema_generator.state_dict().values())
    return (COPIES + 1) * (1 + seeds) * len(state.config.snapshot_steps) * one


def _checkpoint_bytes(state: TrainState, seeds: int) -> int:
    """Return the bytes of networks, averages and both of Adam's moments: two of each training, and one to come."""
    networks = (state.generator, state.ema_generator, state.discriminator)
    weights = [sum(p.numel() for p in network.parameters()) * torch.float32.itemsize for network in networks]
    return (2 * (1 + seeds) + 1) * (sum(weights) + 2 * (weights[0] + weights[2]))
