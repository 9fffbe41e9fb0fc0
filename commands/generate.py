"""`python -m commands.generate COUNT FOLDER`: write images of a registered model, and a manifest of them."""

import argparse
import hashlib
import io
import math
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from PIL import Image

from mlops.figures.grids import grid, png_bytes
from mlops.project import params
from mlops.project.errors import UserError
from mlops.project.new_folder import new_folder
from mlops.project.progress import progress
from mlops.project.result_files import save_json
from mlops.tracking import loaded_model as registered
from mlops.tracking.runs import connect
from mlops.tracking.versions import CHAMPION

BATCH = 512
"""Images in memory at once."""
IMAGES, ROWS, FACTS, GRID = "images", "manifest.csv", "manifest.json", "grid.png"


def generate(count: int, folder: Path, *, seed: int, truncation: float | None, model: str, threads: int) -> None:
    """Write the first images of a seed as PNG files; the same call gives the same bytes.

    Args:
        count: images.
        folder: new or empty; complete or not there. It gets `images/000000.png` and so on; `manifest.csv`, with file,
            seed, number and sha256 of each; `manifest.json`, with what they were made from; and `grid.png`, the first
            hundred.
        seed: of the latents. A larger `count` under the same seed begins with the same images.
        truncation: bound on the components of normal latents, see `gan_core.generation.latents.truncated`; None for none.
        model: `models:/NAME@ALIAS` or `models:/NAME/VERSION` in MLflow.
        threads: of torch; another number may round differently.

    Raises:
        UserError: a number is out of range, the folder is not empty, there is no such model, or it refuses the values.
    """
    _check(count, seed, truncation)
    torch.set_num_threads(threads)
    with new_folder(folder) as new:
        client, _ = connect()
        version = registered.version_at(client, model)
        loaded, sha256 = registered.load_version(version)
        (new / IMAGES).mkdir()
        with progress("generate: images", count) as line:
            for batch in _batches(count, seed, truncation):
                images = registered.generated(loaded, batch)
                _write(new, images)
                line.update(int(images["number"].iloc[-1]) + 1)
        made_from = {"model": version.name, "version": str(version.version), "run_id": version.run_id}
        asked = {"seed": seed, "truncation": truncation, "count": count}
        save_json(new / FACTS, made_from | {"weights_sha256": sha256} | asked)
    print(f"{count:,} images of {version.name} version {version.version} are in {folder}, listed in {folder / ROWS}")


def _check(count: int, seed: int, truncation: float | None) -> None:
    if count < 1:
        raise UserError(f"COUNT must be at least 1, got {count}")
    if not 0 <= seed < 2**63:
        raise UserError(f"seed must be at least 0 and below 2^63, got {seed}")
    if truncation is not None and not 0 < truncation < math.inf:
        raise UserError(f"truncation must be a number above 0, got {truncation}; leave it out for none")


def _batches(count: int, seed: int, truncation: float | None) -> Iterator[pd.DataFrame]:
    """Yield what to ask the model for, one row at a time."""
    for first in range(0, count, BATCH):
        row = {"seed": seed, "count": min(BATCH, count - first), "first": first}
        yield pd.DataFrame([row if truncation is None else row | {"truncation": truncation}])


def _write(folder: Path, images: pd.DataFrame) -> None:
    """Write the files of a batch and their rows of the manifest; of the first batch also the grid."""
    files = [f"{IMAGES}/{number:06}.png" for number in images["number"]]
    for file, png in zip(files, images["png"], strict=True):
        (folder / file).write_bytes(png)
    rows = pd.DataFrame({"file": files, "seed": images["seed"], "number": images["number"]})
    rows["sha256"] = [hashlib.sha256(png).hexdigest() for png in images["png"]]
    begins = not (folder / ROWS).exists()
    rows.to_csv(folder / ROWS, mode="a", header=begins, index=False, lineterminator="\n")
    if begins:
        columns = min(10, len(images))
        shown = [_pixels(png) for png in images["png"][: min(100, len(images) // columns * columns)]]
        (folder / GRID).write_bytes(png_bytes(grid(np.stack(shown), columns)))


def _pixels(png: bytes) -> NDArray[np.uint8]:
    """Return an image (C, H, W)."""
    with Image.open(io.BytesIO(png)) as picture:
        pixels = np.asarray(picture)
    return np.atleast_3d(pixels).transpose(2, 0, 1)


def main(arguments: list[str]) -> None:
    """Read the command line and generate; the defaults are those of `params.yaml`."""
    values = params.load()
    champion = f"models:/{values.register.model_name}@{CHAMPION}"
    parser = argparse.ArgumentParser(
        prog="python -m commands.generate", description="Write images of a registered model."
    )
    parser.add_argument("count", type=int, metavar="COUNT", help="how many images")
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="new or empty")
    parser.add_argument("--seed", type=int, default=0, help="another seed, other images (default 0)")
    parser.add_argument("--truncation", type=float, help="bound on the components of z, such as 1.0: less varied")
    parser.add_argument("--model", default=champion, help="models:/NAME@ALIAS or models:/NAME/VERSION (%(default)s)")
    given = parser.parse_args(arguments)
    generate(**vars(given), threads=values.compute.threads)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what was begun is deleted
    try:
        main(sys.argv[1:])
    except UserError as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
