"""One training by a recipe under one seed, for a given time or number of steps, and its scores: a cell of the table."""

import hashlib
import json
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from benchmarks.harness.recipe_data import Data
from gan_core.config import TrainConfig
from gan_core.doctor import Doctor, non_finite
from gan_core.generation.generate import generate
from gan_core.generation.generator_file import load_generator
from gan_core.generation.labels import grid_bank, in_turn
from gan_core.generation.latents import z_bank
from gan_core.metrics.scores import Reference, fid, mind
from gan_core.runtime.randomness import stream
from gan_core.runtime.sampling import sample
from gan_core.runtime.tensor_files import write_atomically
from gan_core.training.loop import NonFiniteLossError
from gan_core.training.state import TrainState
from mlops.figures.grids import grid, png_bytes
from mlops.project.params import EvaluateConfig, Params
from mlops.project.progress import progress
from mlops.project.result_files import load_json, save_json
from mlops.runs.run import TrainingRun
from mlops.scoring.scorer import Scorer

WARM_UP, MEASURED = 5, 3
"""Steps before seconds a step are measured, among them that which a GPU captures, and steps, at least, that are."""
SHARE, LONGEST = 0.05, 20.0
"""Of the given time, and seconds, at most: how long they are measured."""
KEPT = ("near_copies", "precision", "recall", "density", "coverage", "kid", "label_accuracy")
"""Scores against the training images."""
COLUMNS = 10


@dataclass(frozen=True)
class Budget:
    """How long a recipe is trained, so many seconds or so many steps, and how many images are scored at most."""

    seconds: float | None
    steps: int | None
    scored: int


@dataclass(frozen=True)
class Cell:
    """A recipe under a seed, on given data, within a budget."""

    name: str
    recipe: Params
    seed: int
    data: Data
    budget: Budget

    def stem(self) -> str:
        """Return the name of its files: other data, numbers, or another budget give another one."""
        sections = (self.recipe.compute, self.recipe.execution, self.recipe.network, self.recipe.augmentation)
        own = [asdict(section) for section in (*sections, self.recipe.train, self.budget)]
        key = hashlib.sha256(json.dumps([self.data.md5, *own]).encode()).hexdigest()[:8]
        return f"{self.name}-seed{self.seed}-{key}"


def measured(cell: Cell, cells: Path) -> dict[str, Any]:
    """Return what a cell measures, and write it to `cells` with its generator and a grid of its images."""
    run = TrainingRun(
        "train",
        cell.data.prepared,
        cell.recipe.compute,
        cell.recipe.execution,
        cell.recipe.network,
        cell.recipe.augmentation,
    )
    config = replace(cell.recipe.train, seed=cell.seed)
    config = replace(config, steps=cell.budget.steps or _steps(run, config, cell.budget.seconds or 0.0))
    state = run.initial_state(config)
    facts = _trained(run, state, cell)
    facts |= {
        "recipe": cell.name,
        "seed": cell.seed,
        "steps": config.steps,
        "images_per_second": config.steps * config.batch_size * config.discriminator_steps / facts["seconds"],
        "generator_parameters": _parameters(state.generator),
        "discriminator_parameters": _parameters(state.discriminator),
        "bf16": run.execution.arithmetic.bf16,
        "peak_gpu_memory": peak_memory(),
    }
    if facts["verdict"] != "divergence":
        generator = cells / f"{cell.stem()}.safetensors"
        run.save(generator, state)
        write_atomically(generator.with_suffix(".png"), png_bytes(_grid(generator)))
        facts |= scored(cell, generator)
    save_json(cells / f"{cell.stem()}.json", facts)
    return facts


def peak_memory() -> float:
    """Return the most of a GPU's memory, in GB, that this process has held; 0 without one."""
    return torch.cuda.max_memory_allocated() / 1e9 if torch.cuda.is_available() else 0.0


def _parameters(network: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def _steps(run: TrainingRun, config: TrainConfig, seconds: float) -> int:
    """Return how many steps take so many seconds."""
    return max(1, round(seconds / seconds_a_step(run, config, min(SHARE * seconds, LONGEST))))


def seconds_a_step(run: TrainingRun, config: TrainConfig, least: float) -> float:
    """Return the mean time of the steps of at least so many seconds, of a state that is thrown away."""
    state, times = run.initial_state(replace(config, steps=10**9)), list[float]()
    before = time.perf_counter()
    for _ in run.steps(state):
        _wait(run)
        now = time.perf_counter()
        times.append(now - before)
        before = now
        if len(times) >= WARM_UP + MEASURED and sum(times[WARM_UP:]) >= least:
            break
    return fmean(times[WARM_UP:])


def _wait(run: TrainingRun) -> None:
    if run.execution.device.type == "cuda":
        torch.cuda.synchronize()


def _trained(run: TrainingRun, state: TrainState, cell: Cell) -> dict[str, Any]:
    """Train to the end; return the seconds without those of reading, and what the doctor says at the end."""
    config, doctor, reading = state.config, Doctor(cell.recipe.doctor, state.config.steps), 0.0
    every = max(1, min(config.report_every, config.steps // 50))
    instruments, started = run.instruments(state), time.perf_counter()
    try:
        with progress(f"{cell.name}, seed {cell.seed}: steps", config.steps) as line:
            for report in run.steps(state):
                if report.step % every == 0 or report.step == config.steps:
                    _wait(run)
                    before = time.perf_counter()
                    seen = {"images_seen": float(report.step * config.batch_size * config.discriminator_steps)}
                    doctor.read(report.read() | seen | instruments.read(state))
                    reading += time.perf_counter() - before
                line.update(report.step)
        diagnosis = doctor.verdict()
    except NonFiniteLossError as error:
        diagnosis = non_finite(error.step)
    seconds = time.perf_counter() - started - reading
    return {"seconds": seconds, "verdict": diagnosis.verdict, "diagnosis": diagnosis.sentence}


def scored(cell: Cell, generator: Path) -> dict[str, Any]:
    """Return FID and MIND of generated against held-out images, as many, and other scores against training images."""
    scorer = _scorer(cell)
    bank = next(scorer.banks(generator))
    return _scores(scorer, bank.features.features, bank.metrics)


def scored_real(cell: Cell) -> dict[str, Any]:
    """Return the same scores of as many training images; those against training images are of the held-out ones."""
    scorer = _scorer(cell)
    train = scorer.reference.features.cpu()
    chosen = sample(len(train), scorer.count, stream(0, "real images beside held-out ones"))
    return _scores(scorer, train[chosen], scorer.real())


def _scorer(cell: Cell) -> Scorer:
    config = EvaluateConfig(0, 2, cell.budget.scored, 10, 10, 1000, "mark", parzen=False, utility_seeds=0)
    return Scorer(cell.data.prepared, cell.data.extractor, cell.recipe.compute, config)


def _scores(scorer: Scorer, features: Tensor, metrics: dict[str, float]) -> dict[str, Any]:
    held_out = Reference(scorer.real_features.features, torch.empty(0), None, 0)
    against = {"fid": fid(features, held_out), "mind": mind(features, held_out)}
    kept = {name: metrics[name] for name in KEPT if name in metrics}
    return against | {"fid_of_training_images": metrics["fid"], "scored": scorer.count} | kept


def _grid(generator: Path) -> Image.Image:
    """Return ten rows of a generator's images, each of one class if it takes labels."""
    network, config, classes = load_generator(generator)
    bank = grid_bank(config, len(classes), seed=0, columns=COLUMNS, rows=COLUMNS)
    return grid(generate(network, *bank).numpy(), COLUMNS)


def shown(generator: Path, count: int) -> NDArray[np.uint8]:
    """Return images (count, C, H, W) of a generator, of all classes in turn if it takes labels."""
    network, config, classes = load_generator(generator)
    labels = in_turn(len(classes), count=count) if classes else None
    images: NDArray[np.uint8] = generate(network, z_bank(config, seed=0, count=count), labels).numpy()
    return images


def finished(cell: Cell, cells: Path) -> dict[str, Any] | None:
    """Return what a cell measured before, if it did."""
    path = cells / f"{cell.stem()}.json"
    return load_json(path) if path.is_file() else None
