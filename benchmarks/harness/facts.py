"""A project for trials, and what a run of its pipeline leaves, beside what one leaves that nothing disturbed."""

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import yaml

from tests.project import Project, clone

VALUES = "select key, step, count(*) from metrics where key not like 'system/%' group by key, step"
"""How often MLflow has each value; system metrics are of the machine."""
SHOWN = 3
"""Values that `unlike` names."""


def untouched(folder: Path, training: dict[str, int]) -> Project:
    """Return a new project in which nothing was run, with a replica, and bounds that every model is within."""
    project = clone(folder)
    project.set(
        train=training, replicate={"seeds": 1}, register={"max_fid_to_trivial": 1e9, "max_fid_ratio_to_noise": 1e9}
    )
    project.commit()
    project.check_store()
    return project


def asked(root: Path, query: str, *values: str) -> list[tuple[Any, ...]]:
    """Return what a project's own MLflow database answers."""
    with closing(sqlite3.connect(root / ".mlflow" / "mlflow.db")) as database:
        return list(database.execute(query, values))


def facts(root: Path) -> dict[str, Any]:
    """Return sums of data and models, versions, champions, decisions, and how often MLflow has each value."""
    stages = yaml.safe_load((root / "dvc.lock").read_text())["stages"].values()
    outputs = [out for stage in stages for out in stage["outs"]]
    return {
        "data and models": {out["path"]: out["md5"] for out in outputs if out["path"].startswith(("data/", "models/"))},
        "versions": asked(root, "select count(*) from model_versions"),
        "aliases": asked(root, "select alias, version from registered_model_aliases order by 1"),
        "decisions": len((root / "ledger.jsonl").read_text().splitlines()),
        "values in MLflow": {(key, step): times for key, step, times in asked(root, VALUES)},
    }


def unlike(one: dict[str, Any], other: dict[str, Any]) -> list[str]:
    """Return how facts differ from others, a sentence each."""
    return [f"other {what}: {_shown(one[what], other[what])}" for what in other if one[what] != other[what]]


def _shown(one: Any, other: Any) -> str:
    if isinstance(one, dict):
        one, other = (sorted(some.items() - more.items())[:SHOWN] for some, more in ((one, other), (other, one)))
    return f"{one}, not {other}"
