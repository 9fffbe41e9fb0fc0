"""A copy of the project in which a test may run pipelines."""

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parent.parent
TINY: dict[str, dict[str, Any]] = {
    "data": {"name": "digits", "path": None},
    "prepare": {"image_size": 8, "channels": 1},
    "extractor": {"kind": "classifier", "epochs": 2},
    "choose": {"images": 100},
    "evaluate": {"banks": 4},
    "network": {"family": "mlp", "z_dim": 8, "generator_width": 16, "discriminator_width": 16},
    "train": {"steps": 60, "batch_size": 16, "report_every": 10, "sample_every": 30, "checkpoint_every": 20},
}
LONGER = {"seed": 1, "steps": 1500, "report_every": 7, "sample_every": 500, "checkpoint_every": 100}
"""What the second training of a project has in the section `train`.

It is long enough to be killed, and its checkpoints lie between its reports.
"""
DENSITY_PARAMS = Path("experiments/densities/params.yaml")
FOREIGN = ("PREFECT_", "MLFLOW_", "DVC_", "EQUILIBRIUM_", "PYTHONDONTWRITEBYTECODE")

TIMEOUT = 1800
"""Seconds that a command of the project may take, which takes up to two minutes on an idle machine."""
SLOTS = {"EQUILIBRIUM_SLOTS": "100"}
"""Trainings of different tests wait for no slot."""


def environment(**more: str) -> dict[str, str]:
    """Return the environment of a fresh shell with the virtual environment activated."""
    own = {name: value for name, value in os.environ.items() if not name.startswith(FOREIGN)}
    return own | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "DO_NOT_TRACK": "1", **SLOTS} | more


def tiny_densities(values: dict[str, Any]) -> dict[str, Any]:
    """Return the experiment's parameters with games that take no time; the values share nothing."""
    values["measure"] |= {"points": 1000, "samples": 2000, "samples_on_the_way": 500, "cells": 50, "shown": 100}
    values["gradients"] |= {"steps": 4, "every": 2}
    for game in (values[name] for name in ("gaussian", "mixture", "heavy_tail", "ring", "grid")):
        game["train"] |= {"steps": 20, "batch_size": 32, "report_every": 10, "sample_every": 5}
    return values


@dataclass(frozen=True)
class Project:
    """A clone with tiny parameters and a DVC cache of its own."""

    root: Path
    variables: dict[str, str] = field(default_factory=dict)
    """What all its commands find in their environment."""

    def dvc(self, *arguments: str) -> str:
        """Run dvc and return what it printed; an error of its is an error of the test."""
        ended = self.run(sys.executable, "-m", "dvc", *arguments)
        assert ended.returncode == 0, ended.stdout
        return ended.stdout

    def run(self, *command: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run a command in the project, with more variables in its environment.

        Raises:
            TimeoutExpired: with its output so far; it has not ended.
        """
        return subprocess.run(
            command,
            cwd=self.root,
            env=environment(**self.variables | variables),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=TIMEOUT,
        )

    def results(self) -> dict[str, bytes]:
        """Return the bytes of a training's results, without how long it took."""
        names = ["models/generator.safetensors", "reports/training/history.csv", "reports/evaluation/scores.json"]
        return {name: (self.root / name).read_bytes() for name in names}

    def copy(self, target: Path) -> "Project":
        """Copy everything to a new folder, with DVC's cache and MLflow's store, which then names its new place."""
        shutil.copytree(self.root, target, symlinks=True)
        Project(target).check_store()
        return Project(target)

    def check_store(self) -> None:
        """Make MLflow's store if there is none; otherwise let it name the place where it is now."""
        checked = "from mlops.tracking.store import check_store; check_store()"
        assert self.run(sys.executable, "-c", checked).returncode == 0

    def commit(self) -> None:
        """Commit all that git does not ignore."""
        git = ("git", "-c", "user.name=test", "-c", "user.email=test@example.org")
        for command in (("add", "-A"), ("commit", "-q", "-m", "a test")):
            assert self.run(*git, *command).returncode == 0

    def set(self, **sections: dict[str, Any]) -> None:
        """Change values in params.yaml."""
        path = self.root / "params.yaml"
        values = yaml.safe_load(path.read_text())
        for section, changes in sections.items():
            values[section] |= changes
        path.write_text(yaml.safe_dump(values, sort_keys=False))


def clone(target: Path, variables: dict[str, str] | None = None) -> Project:
    """Copy what git has, and what it would take, to an empty folder and commit it there; nothing was decided yet."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    for name in filter(None, listed.stdout.split("\0")):
        if (ROOT / name).is_file() and Path(name).name not in ("dvc.lock", "ledger.jsonl"):
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, target / name)
    project = Project(target, variables or {})
    project.set(**TINY)
    assert project.run("git", "init", "-q").returncode == 0
    project.commit()
    return project
