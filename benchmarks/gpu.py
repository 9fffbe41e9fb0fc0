"""What a GPU has to show, in under 10 minutes: R3GAN's speed and memory, its images beside others', and the tests.

`python -m benchmarks gpu [PATH] [MINUTES] [FOLDER]`. PATH has MNIST's files (without it they are downloaded) or images
in class folders. First the preset `r3gan-32`, in float32 and bfloat16, its penalties exact and by finite differences;
then it, `dcgan-64` and `sngan-32`, MINUTES each, as in `python -m benchmarks recipes`; then `tests/gan_core`. Samples
are drawn into docs/pictures/gpu.png. Without a GPU it ends with an error that says so.
"""

import subprocess
import sys
import time
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Literal

import torch

from benchmarks.harness.recipe_cells import Budget, Cell, peak_memory, seconds_a_step
from benchmarks.harness.recipe_data import Data, prepared_data
from benchmarks.harness.rounds import in_own_process
from benchmarks.harness.tables import Table
from benchmarks.recipes import all_measured, recipes_for, samples
from gan_core.config import ExecutionConfig
from gan_core.runtime.tensor_files import write_atomically
from mlops.figures.grids import png_bytes
from mlops.project.errors import UserError
from mlops.project.params import Params
from mlops.runs.run import TrainingRun

ROOT = Path(__file__).resolve().parent.parent
NAMES = ["r3gan-32", "dcgan-64", "sngan-32"]
SECONDS, SCORED = 6.0, 10_000
"""Seconds of steps that are measured for a speed, and images that are scored."""
PRECISIONS: tuple[Literal["fp32", "bf16"], ...] = ("fp32", "bf16")
PENALTIES: tuple[Literal["exact", "finite_difference"], ...] = ("exact", "finite_difference")
COLUMNS = ("what", "images per second", "peak memory, GB", "FID", "steps", "seconds")
Row = tuple[str, ...]


def table(path: str | None = None, minutes: str = "1.5", folder: str = "benchmarks/results/gpu") -> Table:
    """Measure, train, score and test."""
    if not torch.cuda.is_available():
        raise UserError("torch finds no GPU on this machine, so there is nothing to measure; run this where one is")
    out, budget = Path(folder), Budget(float(minutes) * 60, None, SCORED)
    recipes = recipes_for(None if path is None else Path(path), NAMES, out, size=32, threads=1)
    data = in_own_process(prepared_data, out / "data", recipes[NAMES[0]], None)
    cells = [Cell(name, params, 0, data, budget) for name, params in recipes.items()]
    rows = [in_own_process(speed, recipes[NAMES[0]], data, *way) for way in product(PRECISIONS, PENALTIES)]
    for name, (facts,) in all_measured(cells, out).items():
        numbers = (f"{facts['images_per_second']:,.0f}", f"{facts['peak_gpu_memory']:.1f}")
        score = f"{facts['fid']:.2f}" if "fid" in facts else facts["verdict"]
        rows.append((f"{name}, {minutes} minutes", *numbers, score, f"{facts['steps']:,}", f"{facts['seconds']:.0f}"))
    write_atomically(ROOT / "docs" / "pictures" / "gpu.png", png_bytes(samples(data, cells, out)))
    rows.append(tested())
    words = (
        f"On {torch.cuda.get_device_name()}, at 32 pixels; images per second are real images that D is trained on. FID "
        "is of generated against as many held-out images. The last row is the tests of `gan_core` there."
    )
    return Table("modern networks on a GPU", COLUMNS, tuple(rows), words)


def speed(
    recipe: Params,
    data: Data,
    precision: Literal["fp32", "bf16"],
    penalty_gradient: Literal["exact", "finite_difference"],
) -> Row:
    """Return images per second and peak memory of a recipe in a precision, with one way to compute penalties."""
    execution = ExecutionConfig(precision, 1, recipe.execution.micro_batches)
    config = replace(recipe.train, penalty_gradient=penalty_gradient)
    run = TrainingRun("train", data.prepared, recipe.compute, execution, recipe.network, recipe.augmentation)
    images = config.batch_size * config.discriminator_steps / seconds_a_step(run, config, SECONDS)
    return (f"r3gan-32, {precision}, {penalty_gradient}", f"{images:,.0f}", f"{peak_memory():.1f}", "", "", "")


def tested() -> Row:
    """Return the last line of the tests of `gan_core`, and how long they took."""
    command = [sys.executable, "-m", "pytest", "tests/gan_core", "-q", "-p", "no:cacheprovider"]
    started = time.perf_counter()
    printed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False).stdout.strip()
    last = printed.splitlines()[-1] if printed else "nothing was printed"
    return (f"tests/gan_core: {last}", "", "", "", "", f"{time.perf_counter() - started:.0f}")
