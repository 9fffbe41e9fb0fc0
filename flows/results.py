"""What a run leaves in Prefect's UI: the gate's decision in words and pictures, and all scores as numbers."""

import base64
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from prefect.artifacts import create_markdown_artifact, create_table_artifact

SCORES, DECISION = "gan-scores", "gan-decision"
"""Keys of the artifacts."""


def publish(paths: dict[str, str]) -> dict[str, Any]:
    """Leave what was decided in Prefect's UI, with pictures, scores and a link to the MLflow run, and return it.

    It is one artifact, for the UI lists those of a run in the order of their random ids.
    """
    scores, place = _scores(Path(paths["evaluation"])), _load(Path(paths["registration"]))
    doctor = _load(Path(paths["diagnosis"]) / "diagnosis.json")
    version = version_of(place)
    table = [_row(name, score) for name, score in scores.items()]
    table.sort(key=lambda row: not row.startswith("| fid"))
    parts = [
        f"# {place['decision']}: {version}",
        place["reason"],
        f"**The doctor:** {doctor['sentence']}",
        f"[The run in MLflow]({mlflow_address(place)}), which `make ui` serves, has samples of every step, and its "
        "version's page the commands that generate, promote and roll back.",
        embedded(Path(paths["evaluation"]) / "comparison.png", "generated beside real images"),
        "\n".join(["| score | generated | 95 % | real |", "|---|---|---|---|", *table]),
        embedded(Path(paths["diagnosis"]) / "instruments.png", "readings through training"),
    ]
    create_markdown_artifact(
        key=DECISION,
        markdown="\n\n".join(parts),
        description=f"{place['decision']}: {version}; {doctor['verdict']}",
    )
    return place


def publish_scores(evaluation: Path) -> None:
    """Leave each score with its 95 % interval over banks of z and, with replicas, seeds, for another flow to read."""
    rows = []
    for name, score in _scores(evaluation).items():
        over_seeds = {f"seeds_{end}": value for end, value in score.get("seeds", {}).items()}
        rows.append({"score": name} | {end: score[end] for end in ("mean", "low", "high")} | over_seeds)
    create_table_artifact(key=SCORES, table=rows, description="scores of the generator")


def _scores(evaluation: Path) -> dict[str, dict[str, Any]]:
    """Return what `evaluate` measured with an interval, by name."""
    scores = sorted(_load(evaluation / "scores.json").items())
    return {name: score for name, score in scores if isinstance(score, dict) and "mean" in score}


def version_of(place: Mapping[str, Any]) -> str:
    """Return the name and number of a version, by `model` and `version`."""
    return f"{place['model']} version {place['version']}"


def _row(name: str, score: dict[str, Any]) -> str:
    numbers = {key: f"{score[key]:.4g}" for key in ("mean", "low", "high", "real") if key in score}
    interval = f"[{numbers['low']}, {numbers['high']}]" if "low" in numbers else ""
    return f"| {name} | {numbers['mean']} | {interval} | {numbers.get('real', '')} |"


def mlflow_address(place: Mapping[str, Any]) -> str:
    """Return the page of a run in MLflow, by `experiment_id` and `run_id`."""
    address = os.environ.get("MLFLOW_TRACKING_URI", "")
    server = address if address.startswith("http") else "http://127.0.0.1:5000"
    # Without the view MLflow opens its menu for language models, which has no model registry.
    return f"{server}/#/experiments/{place['experiment_id']}/runs/{place['run_id']}?workflowType=machine_learning"


def _load(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(path.read_text())
    return content


def embedded(path: Path, title: str) -> str:
    """Return a picture as markdown that needs no file."""
    return f"![{title}](data:image/png;base64,{base64.b64encode(path.read_bytes()).decode()})"
