"""Recipes beside each other on the same images, each trained for the same time: FID against held-out images.

`python -m benchmarks recipes PATH [--presets NAME,...] [--minutes M | --steps N] [--seeds N] [--out FOLDER]`. PATH has
MNIST's files, or is a folder, zip or tar of images; a recipe is a preset, one of `benchmarks/candidates.yaml`, or the
path of a patch, and images, size, channels and threads are those of the comparison. Each training has a process of its
own. How many steps fit into the time is measured first, so that schedules end with it. What is finished stands in
FOLDER and is not computed again, so a command can be stopped and given again, with more recipes or seeds, too.
"""

import argparse
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from PIL import Image

from benchmarks.harness.recipe_cells import COLUMNS, Budget, Cell, finished, measured, scored_real, shown
from benchmarks.harness.recipe_data import Data, check_labels, data_values, prepared_data, recipe
from benchmarks.harness.rounds import in_own_process
from benchmarks.harness.tables import Table
from gan_core.metrics.intervals import interval
from gan_core.runtime.randomness import stream
from gan_core.runtime.tensor_files import write_atomically
from mlops.figures.grids import png_bytes, stacked
from mlops.project.params import Params
from mlops.project.prepared_data import load_images
from mlops.project.result_files import load_json, save_json

PRESETS = "dcgan-64,sngan-32,images-32"
BASELINES = ("dcgan-64", "sngan-32")
"""Recipes to which the others' FID is a ratio, seed by seed, if they are compared."""
Facts = dict[str, Any]
ByRecipe = dict[str, list[Facts]]
"""Of every recipe what its cells measured, by seed."""


def table(*arguments: str) -> Table:
    """Train and score what is missing, and return a row for each recipe."""
    asked = _arguments().parse_args(arguments)
    out, names = Path(asked.out), asked.presets.split(",")
    recipes = recipes_for(Path(asked.path), names, out, size=asked.size, threads=asked.threads)
    data = in_own_process(prepared_data, out / "data", next(iter(recipes.values())), asked.train_images)
    budget = Budget(None if asked.steps else asked.minutes * 60, asked.steps, asked.scored)
    cells = [Cell(name, params, seed, data, budget) for seed in range(asked.seeds) for name, params in recipes.items()]
    results, real = all_measured(cells, out), _real(cells[0], out)
    write_atomically(out / "samples.png", png_bytes(samples(data, cells, out)))
    length = f"{asked.steps:,} steps" if asked.steps else f"{asked.minutes:g} minutes"
    words = (
        f"Each training took {length} on {asked.threads} thread(s), with images of {asked.size} pixels. FID and MIND "
        f"are of {real['scored']:,} generated against as many held-out images, intervals of 95 % over seeds, and "
        "ratios of FID, seed by seed. The row of real images is of training images, its last FID of held-out ones."
    )
    return Table("recipes", _columns(results), tuple(_rows(results, real)), words)


def recipes_for(path: Path | None, names: list[str], out: Path, *, size: int, threads: int) -> dict[str, Params]:
    """Return recipes by name, on the images of a path, or on MNIST downloaded; their numbers stand in a folder."""
    values = data_values(path, size=size, threads=threads)
    stems = {Path(name).stem: name for name in names}
    return {stem: recipe(name, values, out / "recipes" / f"{stem}.yaml") for stem, name in stems.items()}


def all_measured(cells: list[Cell], out: Path) -> ByRecipe:
    """Return what all cells measured, now or before; networks that lack their labels are refused before any work."""
    for cell in cells:
        check_labels(cell.data, cell.name, cell.recipe)
    results = ByRecipe()
    for number, cell in enumerate(cells, start=1):
        facts = finished(cell, out) or in_own_process(measured, cell, out)
        results.setdefault(cell.name, []).append(facts)
        print(f"{number} of {len(cells)}: {_sentence(facts)}", flush=True)
    return results


def samples(data: Data, cells: list[Cell], out: Path) -> Image.Image:
    """Return two rows of samples of each recipe under seed 0, below as many real training images."""
    images = load_images(data.prepared, "train")
    chosen = torch.randperm(len(images), generator=stream(0, "shown real images"))[: 2 * COLUMNS]
    panels = {"real": images[chosen.numpy()]}
    for cell in cells:
        if cell.seed == 0 and (generator := out / f"{cell.stem()}.safetensors").is_file():
            panels[cell.name] = shown(generator, 2 * COLUMNS)
    return stacked(panels, COLUMNS)


def _arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks recipes")
    parser.add_argument("path", help="MNIST's files, or a folder, zip or tar of images")
    parser.add_argument("--presets", default=PRESETS, help="names or paths, with commas between them")
    parser.add_argument("--minutes", type=float, default=10.0, help="of each training")
    parser.add_argument("--steps", type=int, help="of each training, instead of a time")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--size", type=int, default=32, help="of all images, in pixels")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--scored", type=int, default=10_000, help="generated and held-out images, at most")
    parser.add_argument("--train-images", type=int, help="the others are held out")
    parser.add_argument("--out", default="benchmarks/results", help="folder of what is finished")
    return parser


def _sentence(facts: Facts) -> str:
    score = f"FID {facts['fid']:.2f}, " if "fid" in facts else ""
    return (
        f"{facts['recipe']}, seed {facts['seed']}: {score}{facts['steps']:,} steps in {facts['seconds']:.0f} s, "
        f"{facts['images_per_second']:.0f} images per second, {facts['verdict']}"
    )


def _real(cell: Cell, out: Path) -> Facts:
    """Return the scores of real images, computed once."""
    path = out / f"real-{cell.data.md5[:8]}-{cell.budget.scored}.json"
    if not path.is_file():
        save_json(path, in_own_process(scored_real, cell))
    return load_json(path)


def _columns(measured: ByRecipe) -> tuple[str, ...]:
    ratios = [f"ratio to {name}" for name in BASELINES if name in measured]
    fixed = ("MIND", "near-copies", "images/s", "steps", "seconds", "parameters", "doctor", "FID of training images")
    return ("recipe", "FID by seed", "FID", *ratios, *fixed)


def _rows(measured: ByRecipe, real: Facts) -> list[tuple[str, ...]]:
    """Return a row for each recipe and, last, one for real images."""
    rows = []
    for name, cells in measured.items():
        fids = _all(cells, "fid")
        ratios = [_ratio(fids, _all(measured[other], "fid")) for other in BASELINES if other in measured]
        parameters = [f"{cells[0][f'{player}_parameters'] / 1e6:.2f}" for player in ("generator", "discriminator")]
        verdicts = ", ".join(dict.fromkeys(cell["verdict"] for cell in cells))
        rows.append(
            (
                name,
                ", ".join("-" if value is None else f"{value:.4g}" for value in fids),
                _mean(fids),
                *ratios,
                _mean(_all(cells, "mind")),
                _mean(_all(cells, "near_copies"), ".1%"),
                *(f"{fmean(cell[key] for cell in cells):,.0f}" for key in ("images_per_second", "steps", "seconds")),
                " + ".join(parameters) + " M",
                verdicts,
                _mean(_all(cells, "fid_of_training_images")),
            )
        )
    columns = len(rows[0])
    own = {2: "fid", columns - 8: "mind", columns - 7: "near_copies", columns - 1: "fid_of_training_images"}
    formats = {"near_copies": ".1%"}
    last = [f"{real[own[place]]:{formats.get(own[place], '.2f')}}" if place in own else "" for place in range(columns)]
    return [*rows, ("real images", *last[1:])]


def _all(cells: list[Facts], key: str) -> list[float | None]:
    return [cell.get(key) for cell in cells]


def _mean(values: list[float | None], form: str = ".2f") -> str:
    """Return the mean and, of several values, its interval; no mean of trainings of which one has none."""
    known = [value for value in values if value is not None]
    if len(known) < len(values):
        return "-"
    if len(known) == 1 or len(set(known)) == 1:
        return f"{known[0]:{form}}"
    bounds = interval(known)
    return f"{bounds.mean:{form}} ({bounds.low:{form}} to {bounds.high:{form}})"


def _ratio(fids: list[float | None], others: list[float | None]) -> str:
    pairs = zip(fids, others, strict=True)
    return _mean([None if one is None or other is None else one / other for one, other in pairs])
