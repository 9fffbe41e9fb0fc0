"""What DVC runs again after a change of code."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from mlops.runs.kept_work import CHECKPOINT, PREVIOUS
from tests.project import Project, environment

pytestmark = pytest.mark.slow

# Stages whose outputs are made of their inputs and of the digest of their code, which alone is computed as always.
STUB = """
import hashlib, sys, pathlib, yaml
name, paths = sys.argv[1], [pathlib.Path(path) for path in sys.argv[2:]]
if name == "code":
    from stages.code import code
    sys.exit(code(*paths))
outputs = len(yaml.safe_load(open("dvc.yaml"))["stages"][name]["outs"])
inputs = [pathlib.Path("reports/digests", f"{name}.json"), *paths[:-outputs]]
for path in paths[-outputs:]:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(hashlib.sha256(b"".join([path.name.encode(), *(path.read_bytes() for path in inputs)])).hexdigest())
"""
LOSS, INTERVALS = Path("gan_core/losses/penalties.py"), Path("gan_core/metrics/intervals.py")
NOISE = '\n"""A docstring."""  # and a comment\n'
FOLLOWING = {"choose", "diagnose", "evaluate", "register"}


def ran(output: str) -> set[str]:
    """Return the stages that DVC ran besides `code`, which always runs, by its output."""
    return {line.split("'")[1] for line in output.splitlines() if line.startswith("Running stage")} - {"code"}


def add(file: Path, text: str) -> None:
    """Add text to a file."""
    file.write_text(file.read_text() + text)


def test_a_change_of_code_reruns_the_stages_that_run_it_and_what_follows(project: Callable[[], Project]) -> None:
    place = project()
    (place.root / "stages" / "__main__.py").write_text(STUB)
    first = ran(place.dvc("repro"))
    assert first == {"fetch", "prepare", "extractor", "train", "replicate"} | FOLLOWING
    for package in ("gan_core", "mlops"):
        for file in (place.root / package).rglob("*.py"):
            add(file, NOISE)
    assert ran(place.dvc("repro")) == {"register"}  # for MLflow has not what the stub wrote
    add(place.root / LOSS, "\nFACTOR = 2\n")
    assert ran(place.dvc("repro")) == {"train", "replicate"} | FOLLOWING
    add(place.root / INTERVALS, "\nFACTOR = 2\n")
    assert ran(place.dvc("repro")) == FOLLOWING
    add(place.root / LOSS, "\n\ndef late():\n    from gan_core.losses import hinge\n")
    (place.root / LOSS).with_name("hinge.py").write_text("MARGIN = 1\n")
    assert ran(place.dvc("repro")) == {"train", "replicate"} | FOLLOWING
    (place.root / LOSS).with_name("hinge.py").write_text("MARGIN = 2\n")
    assert ran(place.dvc("repro")) == {"train", "replicate"} | FOLLOWING


def test_a_stopped_training_goes_on_after_a_comment_and_not_after_another_formula(
    finished: Project, tmp_path: Path
) -> None:
    place = Project(tmp_path / "place")
    shutil.copytree(finished.root, place.root, symlinks=True)
    place.set(train={"steps": 10**7})
    first = stopped(place)
    for package in ("gan_core", "mlops"):
        for file in (place.root / package).rglob("*.py"):
            add(file, NOISE)
    assert stopped(place) == first
    add(place.root / LOSS, "\nFACTOR = 2\n")
    assert len(stopped(place)) == 2


def stopped(place: Project) -> set[str]:
    """Train until a checkpoint is saved, and kill the training; return the keys of trainings that have one."""
    command = [sys.executable, "-m", "stages", "train", "data/prepared", "snapshots", "training"]
    before = time.time_ns()
    process = subprocess.Popen(
        command, cwd=place.root, env=environment(), stdout=subprocess.DEVNULL, start_new_session=True
    )
    while newest(place.root) < before:
        assert process.poll() is None
        time.sleep(0.1)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    return {path.parent.name for path in checkpoints(place.root)}


def checkpoints(root: Path) -> list[Path]:
    """Return the checkpoints of trainings; while one is replaced, only the one before may be there."""
    return [path for name in (CHECKPOINT, PREVIOUS) for path in (root / ".checkpoints").glob(f"*/{name}")]


def newest(root: Path) -> int:
    """Return when the newest checkpoint was written, 0 if there is none."""
    with suppress(FileNotFoundError):  # it is being replaced
        return max((path.stat().st_mtime_ns for path in checkpoints(root)), default=0)
    return 0
