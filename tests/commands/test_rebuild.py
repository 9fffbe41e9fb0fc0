import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from commands.rebuild import Version, compare_inputs, compare_weights, rebuild
from mlops.project.errors import UserError
from mlops.project.identity import dvc_md5, file_digest
from mlops.project.result_files import load_json, save_json
from mlops.tracking.runs import connect
from tests.project import Project, environment
from tests.servers import stage_processes, wait_for

ROOT = Path(__file__).parents[2]


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Return a project in which everything ran."""
    for name, text in {
        "stages/train.py": "code",
        "digests/train.json": '{"stages/train.py": "1"}',
        "params.yaml": "train: {seed: 1}\n",
        "data/prepared/images.npy": "pixels",
        "data/raw/images.tar": "originals",
        "models/generator": "weights",
    }.items():
        (tmp_path / "there" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "there" / name).write_text(text)
    save_json(tmp_path / "there" / "reports" / "training.json", {"device": "x86_64 CPU, 1 thread(s)"})
    return tmp_path / "there"


@pytest.fixture
def version(place: Path, tmp_path: Path) -> Version:
    """Return the version that it registered."""
    md5s = {name: dvc_md5(place / "data" / name) for name in ("raw", "prepared")}
    raw, prepared = ({"path": f"data/{name}", "md5": md5} for name, md5 in md5s.items())
    code = {"path": "digests/train.json", "md5": file_digest(place / "digests" / "train.json", "md5")}
    outs = [{"path": "models/generator", "md5": "1"}, {"path": "reports", "md5": "2.dir"}]
    params = {"params.yaml": {"train": {"seed": 1}}}
    stages = {
        "prepare": {"deps": [raw], "params": {"params.yaml": {"data": {"path": "there"}}}, "outs": [prepared]},
        "train": {"deps": [prepared, code], "params": params, "outs": outs},
    }
    files = {f"data/{name}": md5 for name, md5 in md5s.items()} | {"stages/train.py": "1"}
    files |= {f"data/{name}": file_digest(place / "data" / name, "md5") for name in ("raw/images.tar",)}
    save_json(tmp_path / "lineage" / "files.json", files)
    tags = {"generator.sha256": file_digest(place / "models" / "generator"), "device": "x86_64 CPU, 1 thread(s)"}
    return Version("gan version 1", tags, tmp_path / "lineage", stages)


def test_equal_inputs_and_weights_pass(version: Version, place: Path) -> None:
    compare_inputs(version, place)
    assert compare_weights(version, place, []) == version.tags["generator.sha256"]


def test_a_lock_from_before_the_digests_lists_the_files_themselves(version: Version, place: Path) -> None:
    train = {"path": "stages/train.py", "md5": file_digest(place / "stages" / "train.py", "md5")}
    version.stages["train"]["deps"][1] = train
    files = load_json(version.lineage / "files.json")
    del files["stages/train.py"]
    save_json(version.lineage / "files.json", files)
    compare_inputs(version, place)
    (place / "stages" / "train.py").write_text("other")
    with pytest.raises(UserError, match=r"\n  stages/train\.py: [0-9a-f]{32} then, [0-9a-f]{32} now$"):
        compare_inputs(version, place)


@pytest.mark.parametrize(
    ("name", "text", "line"),
    [
        (
            "digests/train.json",
            '{"stages/train.py": "2"}',
            "stages/train.py: 1 then, 2 now\n  digests/train.json: [0-9a-f]{32} then, [0-9a-f]{32} now",
        ),
        ("params.yaml", "train: {seed: 2}\n", r"train\.seed: 1 then, 2 now"),
        ("data/prepared/images.npy", "other", r"data/prepared: [0-9a-f]{32}\.dir then, [0-9a-f]{32}\.dir now"),
    ],
)
def test_an_input_that_differs_is_named_with_both_values(
    version: Version, place: Path, name: str, text: str, line: str
) -> None:
    (place / name).write_text(text)
    with pytest.raises(UserError, match=rf"\n  {line}$"):
        compare_inputs(version, place)


def test_original_files_that_differ_count_only_if_the_data_do(version: Version, place: Path) -> None:
    (place / "data" / "raw" / "images.tar").write_text("packed in another way")
    compare_inputs(version, place)
    (place / "data" / "prepared" / "images.npy").write_text("other")
    with pytest.raises(UserError, match=r"data/raw/images\.tar: [0-9a-f]{32} then, [0-9a-f]{32} now"):
        compare_inputs(version, place)


def test_other_weights_come_with_both_sums_and_possible_reasons(version: Version, place: Path) -> None:
    (place / "models" / "generator").write_text("other")
    sums = f"sha256 {version.tags['generator.sha256']} then, {file_digest(place / 'models' / 'generator')} now"
    with pytest.raises(UserError, match=sums):
        compare_weights(version, place, [])
    save_json(place / "reports" / "training.json", {"device": "H100"})
    why = r"torch: 1 then, 2 now\n  device: x86_64 CPU, 1 thread\(s\) then, H100 now$"
    with pytest.raises(UserError, match=why):
        compare_weights(version, place, ["torch: 1 then, 2 now"])


def test_a_version_that_cannot_be_rebuilt_is_refused_before_any_work(root: Path) -> None:
    shutil.copy(ROOT / "params.yaml", root)
    for model in ("7", "models:/gan-digits/7", "models:/gan-digits"):
        with pytest.raises(UserError, match=model):
            rebuild(model)
    client, experiment = connect()
    client.create_registered_model("bare")
    run = client.create_run(experiment)
    client.create_model_version("bare", str(root), run.info.run_id)
    with pytest.raises(UserError, match="lineage of bare version 1"):
        rebuild("models:/bare/1")
    assert [path.name for path in root.iterdir()] == ["params.yaml"]


def store_of(project: Project) -> dict[str, str]:
    return {"MLFLOW_TRACKING_URI": f"sqlite:///{project.root}/.mlflow/mlflow.db"}


def runs(store: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the ids of all runs in a store, whatever their experiment."""
    monkeypatch.setenv(*store.popitem())
    client, _ = connect()
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    return [run.info.run_id for run in client.search_runs(experiments)]


@pytest.fixture(scope="module")
def champion(pictured: Project) -> Project:
    """Return a project whose champion learned pictures of its own, under parameters that git does not have."""
    return pictured


@pytest.fixture
def second(champion: Project, tmp_path: Path) -> Project:
    """Return a clean clone of it, with a copy of the pictures."""
    target = tmp_path / "second"
    subprocess.run(["git", "clone", "-q", str(champion.root), str(target)], check=True)
    shutil.copytree(champion.root / "pictures", target / "pictures")
    return Project(target)


@pytest.mark.slow
def test_a_clean_clone_makes_the_same_weights_and_no_run(
    champion: Project, second: Project, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = runs(store_of(champion), monkeypatch)
    command = (sys.executable, "-m", "commands.rebuild", "models:/gan-pictures@champion")
    ended = second.run(*command, **store_of(champion), TMPDIR=str(root))
    assert ended.returncode == 0, ended.stdout
    sha256 = file_digest(champion.root / "models" / "generator.safetensors")
    assert ended.stdout.endswith(f"was trained again and has the same weights, sha256 {sha256}\n")
    assert "Running stage 'train'" in ended.stdout
    assert "environment" not in ended.stdout
    assert list(root.glob("rebuild-*")) == []
    assert runs(store_of(champion), monkeypatch) == before
    assert second.run("git", "status", "--porcelain").stdout == "?? pictures/\n"


@pytest.mark.slow
def test_a_changed_picture_is_named_and_nothing_is_trained(champion: Project, second: Project, tmp_path: Path) -> None:
    Image.fromarray(np.zeros((40, 50, 3), np.uint8)).save(second.root / "pictures" / "dark" / "4.jpg")
    again = tmp_path / "again"
    command = (sys.executable, "-m", "commands.rebuild", "models:/gan-pictures@champion", str(again))
    ended = second.run(*command, **store_of(champion))
    assert ended.returncode == 1, ended.stdout
    error = ended.stdout[ended.stdout.index("error: ") :]
    names = [line.split(":")[0].strip() for line in error.splitlines() if line.startswith("  ")]
    assert {"data/originals", "data/prepared", "data/raw/images.tar"} <= set(names)
    assert all(name.startswith("data/") or name == "reports/digests/fetch.json" for name in names[:-1])
    assert error.splitlines()[-2].endswith(": dark/4.jpg")
    assert str(again) in error
    assert "Running stage 'train'" not in ended.stdout
    assert not (again / "models" / "generator.safetensors").exists()


@pytest.mark.slow
def test_ending_a_rebuild_ends_its_stage(champion: Project, tmp_path: Path) -> None:
    again = tmp_path / "again"
    command = [sys.executable, "-m", "commands.rebuild", "champion", str(again)]
    process = subprocess.Popen(
        command, cwd=champion.root, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    wait_for(lambda: len(stage_processes(again)) > 1, "no stage")
    os.kill(process.pid, signal.SIGTERM)
    assert process.wait() == 143
    wait_for(lambda: not stage_processes(again), "the stage lives on")
