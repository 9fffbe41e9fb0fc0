import subprocess
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from mlops.project.identity import dvc_md5
from mlops.project.result_files import save_json
from mlops.provenance.record import (
    changed_images,
    code_and_numbers,
    code_and_numbers_at,
    code_files,
    data_files,
    data_folders,
    differences,
    environment,
    load_lock,
    upstream,
    write_lineage,
)
from mlops.tracking.run_writer import RunWriter
from mlops.tracking.runs import connect

LOCK = """
schema: '2.0'
stages:
  code:
    cmd: code digests
    outs: [{path: digests, md5: d1.dir}]
  fetch:
    cmd: fetch raw
    deps: [{path: digests/fetch.json, md5: f1}]
    params: {params.yaml: {data: {name: folder, path: here}}}
    outs: [{path: raw, md5: r1.dir}]
  prepare:
    cmd: prepare raw arrays
    deps: [{path: raw, md5: r1.dir}, {path: digests/prepare.json, md5: p1}]
    outs: [{path: arrays, md5: a1.dir}]
  extractor:
    cmd: extractor arrays extractor
    deps: [{path: arrays, md5: a1.dir}]
    outs: [{path: extractor, md5: e1.dir}]
  train:
    cmd: train arrays weights
    deps: [{path: arrays, md5: a1.dir}, {path: digests/train.json, md5: t1}]
    params: {params.yaml: {train: {rate: 1e-06, steps: 3}}}
    outs: [{path: weights, md5: w1}]
"""


@pytest.fixture
def stages(tmp_path: Path) -> dict[str, Any]:
    """Return the stages of a small lock."""
    (tmp_path / "dvc.lock").write_text(LOCK)
    return load_lock(tmp_path / "dvc.lock")


def test_what_reaches_the_training_is_found_and_nothing_else(stages: dict[str, Any]) -> None:
    assert upstream(stages) == ["train", "prepare", "fetch"]
    assert data_folders(stages) == {"arrays": "a1.dir", "raw": "r1.dir"}


def test_code_and_numbers_of_a_lock_are_those_of_the_project_it_is_of(stages: dict[str, Any], tmp_path: Path) -> None:
    then = code_and_numbers(stages, ["train"])
    assert then == {"digests/train.json": "t1", "train.rate": "1e-06", "train.steps": "3"}
    (tmp_path / "digests").mkdir()
    (tmp_path / "digests" / "train.json").write_text("")
    (tmp_path / "params.yaml").write_text("train: {rate: 1.0e-6, steps: 4}\nother: {x: 1}\n")
    now = code_and_numbers_at(tmp_path, then)
    assert differences(then, now) == {
        "digests/train.json": "t1 then, d41d8cd98f00b204e9800998ecf8427e now",
        "train.steps": "3 then, 4 now",
    }
    (tmp_path / "digests" / "train.json").unlink()
    assert differences(then, code_and_numbers_at(tmp_path, then))["digests/train.json"] == "t1 then, absent now"


def test_code_is_listed_file_by_file(stages: dict[str, Any], tmp_path: Path) -> None:
    assert code_files(stages, tmp_path) == {}
    save_json(tmp_path / "digests" / "prepare.json", {"stages/prepare.py": "1", "mlops/images/pixels.py": "2"})
    save_json(tmp_path / "digests" / "train.json", {"stages/train.py": "3"})
    save_json(tmp_path / "digests" / "evaluate.json", {"stages/evaluate.py": "4"})
    listed = {"stages/prepare.py": "1", "mlops/images/pixels.py": "2", "stages/train.py": "3"}
    assert code_files(stages, tmp_path) == listed


def test_files_are_listed_if_the_folder_has_the_md5(tmp_path: Path) -> None:
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "x").write_bytes(b"one")
    md5 = dvc_md5(tmp_path / "raw")
    listed = {"raw": md5, "raw/x": "f97c5d29941bfb1b2fdab0874906ab82"}
    assert data_files({"raw": md5, "gone": "g.dir"}, tmp_path) == listed | {"gone": "g.dir"}
    (tmp_path / "raw" / "x").write_bytes(b"two")
    assert data_files({"raw": md5}, tmp_path) == {"raw": md5}


def test_a_new_file_differs_unless_only_the_folder_was_known() -> None:
    now = {"raw": "2.dir", "raw/x": "1", "raw/y": "2"}
    differing = differences({"raw": "1.dir", "raw/x": "1"}, now)
    assert differing == {"raw": "1.dir then, 2.dir now", "raw/y": "absent then, 2 now"}
    assert differences({"raw": "1.dir"}, now) == {"raw": "1.dir then, 2.dir now"}
    assert differences(now, now) == {}


def test_images_that_two_manifests_do_not_share_are_named(tmp_path: Path) -> None:
    rows = [("a.png", "train", "1", None), ("b.png", "train", "2", None), ("c.png", None, None, "empty")]
    others = [rows[0], ("b.png", "train", "3", None), ("d.png", "test", "4", None)]
    for name, content in (("then", rows), ("now", others)):
        table = pd.DataFrame(content, columns=["source", "split", "sha256", "refused"]).assign(index=range(3))
        table.to_parquet(tmp_path / name)
    assert changed_images(tmp_path / "then", tmp_path / "then") == []
    assert changed_images(tmp_path / "then", tmp_path / "now") == ["b.png", "c.png", "d.png"]


def test_the_environment_begins_with_what_decides_and_has_the_packages() -> None:
    values = environment()
    assert list(values)[:4] == ["python", "platform", "cpu", "gpu"]
    assert {"torch", "numpy", "dvc"} <= values.keys()
    assert not any("=" in name for name in values)


def test_a_lineage_from_before_git_worked_is_completed_once(
    root: Path, prepared: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    client, experiment = connect()
    run = client.create_run(experiment)
    writer, folder = RunWriter(client, run), Path(run.info.artifact_uri.removeprefix("file://")) / "lineage"
    (root / "params.yaml").write_text("train: {seed: 1}\n")
    assert write_lineage(writer, prepared) == {}
    assert capsys.readouterr().err.count("git init") == 1
    assert not (folder / "changes.patch").exists()
    for command in (
        ["init", "-q"],
        ["add", "."],
        ["-c", "user.name=t", "-c", "user.email=t", "commit", "-q", "-m", "a"],
    ):
        subprocess.run(["git", *command], check=True)
    (root / "params.yaml").write_text("train: {seed: 2}\n")
    writer.set_tags({"git.commit": "a-dirty"})  # as a training writes it
    (folder / "changes.patch").write_bytes(b"")  # as lineages from before have it
    commit = write_lineage(writer, prepared)["git.commit"]
    assert len(commit) == 46
    assert b"+train: {seed: 2}\n" in (folder / "changes.patch").read_bytes()
    (root / "params.yaml").write_text("train: {seed: 3}\n")
    monkeypatch.setattr("mlops.provenance.record.working_tree", None)  # what is complete asks no git
    assert write_lineage(writer, prepared)["git.commit"] == commit
    assert capsys.readouterr().err == ""
