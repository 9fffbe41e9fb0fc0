"""`python -m commands.generate COUNT FOLDER`: images of a registered model in a folder, with a manifest."""

import hashlib
import io
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from PIL import Image

from mlops.figures.grids import grid, png_bytes
from mlops.project import params
from mlops.project.errors import UserError, command_line
from mlops.project.progress import progress
from mlops.project.result_files import save_json
from mlops.promotion.naming import model_name
from mlops.safety.new_outputs import new_folder
from mlops.safety.user_files import check_target
from mlops.tracking.loaded_model import generated, load_version
from mlops.tracking.runs import connect
from mlops.tracking.versions import CHAMPION, find_version

BATCH = 512
"""Images in memory at once."""
MOST = 1_000_000
"""Images of one call, whose files have numbers of six digits; another seed gives more."""
IMAGES, ROWS, FACTS, GRID = "images", "manifest.csv", "manifest.json", "grid.png"
EXAMPLES = """\b
Examples:
  python -m commands.generate 1000 generated/digits --seed 1
  python -m commands.generate 100 generated/third --model 3 --truncation 1.0
  python -m commands.generate 100 generated/cats --label cat
  python -m commands.generate 9 generated/first --model models:/gan-digits/1
"""


def generate(
    count: int,
    folder: Path,
    *,
    name: str,
    model: str,
    seed: int,
    truncation: float | None,
    label: str | None,
    threads: int,
) -> None:
    """Write the first images of a seed as PNG files; the same call gives the same bytes.

    Args:
        count: images, at least 1, at most `MOST`.
        folder: new or empty; complete or not there. It gets `images/000000.png` and so on; `manifest.csv`, with file,
            seed, number, class if the model has any, and sha256 of each; `manifest.json`, with what they were made
            from; and `grid.png`, the first hundred.
        name: of the registered model.
        model: its version, see `mlops.tracking.versions.find_version`.
        seed: of the latents, from 0 to 2^63 - 1. A larger `count` under the same seed begins with the same images.
        truncation: bound on the components of z, above 0, see `gan_core.generation.latents.truncated`; None for none.
        label: name or number of the class, of a conditional model; None for all classes in turn.
        threads: of torch; another number may round differently.

    Raises:
        UserError: the folder is not empty, there is no such model, or it refuses the values.
    """
    if truncation is not None and not 0 < truncation < math.inf:  # the model reads NaN as none
        raise UserError(f"truncation must be a number above 0, got {truncation}; leave it out for none")
    check_target(folder)
    torch.set_num_threads(threads)
    with new_folder(folder) as new:
        client, _ = connect()
        version = find_version(client, name, model)
        loaded, sha256 = load_version(version)
        (new / IMAGES).mkdir()
        with progress("generate: images", count) as line:
            for batch in _batches(count, {"seed": seed, "truncation": truncation, "label": label}):
                images = generated(loaded, batch)
                _write(new, images)
                line.update(int(images["number"].iloc[-1]) + 1)
        made_from = {"model": version.name, "version": str(version.version), "run_id": version.run_id}
        arguments: dict[str, Any] = {"seed": seed, "truncation": truncation, "count": count}
        if "label" in images:
            arguments["label"] = "all in turn" if label is None else images["label"].iloc[0]
        save_json(new / FACTS, made_from | {"weights_sha256": sha256} | arguments)
    print(f"{count:,} images of {version.name} version {version.version} are in {folder}, listed in {folder / ROWS}")


def _batches(count: int, values: dict[str, Any]) -> Iterator[pd.DataFrame]:
    """Yield the model's input for each batch, one row of a table; a value that is None has no column."""
    given = {name: value for name, value in values.items() if value is not None}
    for first in range(0, count, BATCH):
        yield pd.DataFrame([given | {"count": min(BATCH, count - first), "first": first}])


def _write(folder: Path, images: pd.DataFrame) -> None:
    """Write the files of a batch and their rows of the manifest; of the first batch also the grid, sorted by class."""
    files = [f"{IMAGES}/{number:06}.png" for number in images["number"]]
    for file, png in zip(files, images["png"], strict=True):
        (folder / file).write_bytes(png)
    rows = images.drop(columns="png")
    rows.insert(0, "file", files)
    rows["sha256"] = [hashlib.sha256(png).hexdigest() for png in images["png"]]
    first = not (folder / ROWS).exists()
    rows.to_csv(folder / ROWS, mode="a", header=first, index=False, lineterminator="\n")
    if first:
        columns = min(10, len(images))
        shown = images[: min(100, len(images) // columns * columns)]
        shown = shown.sort_values("label", kind="stable") if "label" in shown else shown
        (folder / GRID).write_bytes(png_bytes(grid(np.stack([_pixels(png) for png in shown["png"]]), columns)))


def _pixels(png: bytes) -> NDArray[np.uint8]:
    """Return an image (C, H, W)."""
    with Image.open(io.BytesIO(png)) as picture:
        pixels = np.asarray(picture)
    return np.atleast_3d(pixels).transpose(2, 0, 1)


@click.command(epilog=EXAMPLES)
@click.argument("count", type=click.IntRange(1, MOST))
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--seed", type=click.IntRange(0, 2**63 - 1), default=0, show_default=True, help="Of the latents.")
@click.option("--truncation", type=float, help="Bound on the components of z, such as 1.0: images vary less.")
@click.option("--label", help="Name or number of a class; all in turn if left out.")
@click.option("--model", default=CHAMPION, show_default=True, help="A version, an alias or models:/NAME@ALIAS.")
@command_line()
def main(count: int, folder: Path, seed: int, truncation: float | None, label: str | None, model: str) -> None:
    """Write COUNT images of a registered model into FOLDER, which is new or empty."""
    values = params.load()
    name, threads = model_name(values.register, values.data), values.compute.threads
    options: dict[str, Any] = {"seed": seed, "truncation": truncation, "label": label}
    generate(count, folder, name=name, model=model, threads=threads, **options)


if __name__ == "__main__":
    main()
