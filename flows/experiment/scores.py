"""The scores of a run in Prefect's UI, as numbers that another flow reads."""

import json
from pathlib import Path

from prefect.artifacts import create_table_artifact

SCORES = "gan-scores"
"""Key of the artifact."""


def publish_scores(evaluation: Path) -> None:
    """Leave what `evaluate` measured: each score with its 95 % interval over banks of z and, with replicas, seeds."""
    rows = []
    for name, score in sorted(json.loads((evaluation / "scores.json").read_text()).items()):
        if isinstance(score, dict) and "mean" in score:
            over_seeds = {f"seeds_{end}": value for end, value in score.get("seeds", {}).items()}
            rows.append({"score": name} | {end: score[end] for end in ("mean", "low", "high")} | over_seeds)
    create_table_artifact(key=SCORES, table=rows, description="scores of the generator")
