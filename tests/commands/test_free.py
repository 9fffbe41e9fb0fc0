import os
import re
import sys
from pathlib import Path

import pytest
import yaml

from tests.project import Project

KEYS = ("0123456789abcdef", "fedcba9876543210")
DELETE_A_RUN = """
from mlops.tracking.runs import connect
client, experiment = connect()
run = client.create_run(experiment).info.run_id
client.log_text(run, "x" * 1000, "text")
client.delete_run(run)
(registered,) = [version.run_id for version in client.search_model_versions()]
client.delete_run(registered)
print(run)
"""


def stopped(project: Project, key: str, age: float) -> list[Path]:
    """Write what a stopped training leaves, and a file of a person beside it."""
    folder = project.root / ".checkpoints" / key
    (folder / "samples").mkdir(parents=True)
    files = [folder / name for name in ("state.safetensors", "history.csv", "samples/step_00000001.png")]
    for path in files:
        path.write_bytes(b"x" * 1000)
    os.utime(files[0], (age, age))
    (folder / "mine").write_bytes(b"mine")
    return files


def is_there(paths: list[Path]) -> set[bool]:
    return {path.exists() for path in paths}


@pytest.mark.slow
def test_what_nothing_needs_is_deleted_and_all_else_stays(finished: Project, tmp_path: Path) -> None:
    project = finished.copy(tmp_path / "copy")
    older, newer = (stopped(project, key, age) for key, age in zip(KEYS, (1e9, 1.5e9), strict=True))
    unused = project.root / ".dvc/cache/files/md5/00/11223344556677889900112233445566"[:-2]
    unused.parent.mkdir(exist_ok=True)
    unused.write_bytes(b"x" * 1000)
    run = (
        project.root
        / ".mlflow/artifacts"
        / project.run(sys.executable, "-c", DELETE_A_RUN).stdout.split()[-1]
        / "artifacts"
    )
    project.set(train={"seed": 7})  # a training that is not done: the last stopped one may be meant
    assert run.exists()

    listed = project.run(sys.executable, "-m", "commands.free", "--dry-run")
    assert listed.returncode == 0, listed.stdout
    assert is_there([*older, *newer, unused, run]) == {True}
    needless = dict(re.findall(r"^(\.\w+|DVC's cache) .*?B .*? (\d\S* \w+)  ", listed.stdout, re.MULTILINE))
    assert needless == {".checkpoints": "3.0 kB", "DVC's cache": "1.0 kB", ".mlflow": "1.0 kB"}

    freed = project.run(sys.executable, "-m", "commands.free")
    assert freed.returncode == 0, freed.stdout
    assert is_there([*older, unused, run]) == {False}
    assert is_there([*newer, *(project.root / ".checkpoints" / key / "mine" for key in KEYS)]) == {True}
    project.set(train={"seed": 0})
    assert "Running stage 'train'" not in project.dvc("repro", "train")
    freed = project.run(sys.executable, "-m", "commands.free")
    assert is_there(newer) == {False}, freed.stdout
    assert project.run(sys.executable, "-m", "commands.generate", "1", "generated/one").returncode == 0
    assert "DVC looks" in listed.stdout
    assert "DVC looks" not in freed.stdout  # which had no file that was not needed


@pytest.mark.slow
def test_what_a_version_was_made_of_stays_without_a_commit_that_names_it(finished: Project, tmp_path: Path) -> None:
    project = finished.copy(tmp_path / "copy")
    lock = yaml.safe_load((project.root / "dvc.lock").read_text())
    (project.root / "dvc.lock").unlink()
    unused = project.root / ".dvc/cache/files/md5/00/112233445566778899001122334455"
    unused.parent.mkdir(exist_ok=True)
    unused.write_bytes(b"x")
    freed = project.run(sys.executable, "-m", "commands.free")
    assert freed.returncode == 0, freed.stdout
    assert not unused.exists()
    for stage in lock["stages"].values():
        for out in stage["outs"]:
            md5 = out["md5"]
            assert (project.root / ".dvc/cache/files/md5" / md5[:2] / md5[2:]).exists() or not out["path"].startswith(
                ("data/", "models/")
            )
