"""Names and formats of the files that stages write and later ones read."""

import csv
import json
from pathlib import Path
from typing import Any

HISTORY = "history.csv"
SAMPLES = "samples"
SNAPSHOTS = "snapshots"
TRAINING = "training.json"
SPEED = "speed.json"
SCORES = "scores.json"
METRICS = "metrics.json"
PASSPORT = "passport.json"
BANKS = "banks.csv"
CLASSES = "classes.csv"
UTILITY = "utility.json"
COMPARISON = "comparison.png"
NEIGHBOURS = "neighbours.png"
INTERPOLATION = "interpolation.png"
TRUNCATION = "truncation.png"
WALK = "walk.webp"
GROWTH = "growth.webp"
DIAGNOSIS = "diagnosis.json"
INSTRUMENTS = "instruments.png"
CHOICE = "choice.json"
CURVE = "snapshots.csv"
CURVE_PICTURE = "snapshots.png"


def save_json(path: Path, content: dict[str, Any]) -> None:
    """Write JSON that is the same for the same content; the folder is made if it is missing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(content, indent=2, sort_keys=True, allow_nan=False, ensure_ascii=False)
    path.write_text(text + "\n", encoding="utf-8")


def load_json(path: Path) -> dict[str, Any]:
    """Return what `save_json` wrote."""
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content


def load_history(path: Path) -> list[dict[str, float]]:
    """Return the rows of a history."""
    with path.open(newline="") as file:
        return [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]


def load_curve(folder: Path, metric: str) -> dict[int, float]:
    """Return the score of each snapshot by its step."""
    return {int(row["step"]): row[metric] for row in load_history(folder / CURVE)}


def grid_path(samples: Path, step: int) -> Path:
    """Return the path of a step's sample grid."""
    return samples / f"step_{step:08}.png"


def grids(samples: Path) -> dict[int, Path]:
    """Return the sample grids of a folder by step."""
    return {int(path.stem.removeprefix("step_")): path for path in sorted(samples.glob("step_*.png"))}


def snapshot_path(folder: Path, step: int) -> Path:
    """Return the path of the averaged generator after a step."""
    return folder / f"step_{step:08}.safetensors"


def snapshots(folder: Path) -> dict[int, Path]:
    """Return the averaged generators of a folder by step, in the order of steps."""
    return {int(path.stem.removeprefix("step_")): path for path in sorted(folder.glob("step_*.safetensors"))}
