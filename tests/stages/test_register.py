import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from platform import machine
from typing import Any

import pytest
from mlflow import MlflowClient

from gan_core.config import ComputeConfig
from stages.diagnose import diagnose
from stages.evaluate import evaluate
from stages.extractor import extractor
from stages.lineage import file_digest
from stages.params import Params, RegisterConfig
from stages.register import register, within_bounds
from stages.registry import champion
from stages.tracking import connect

CPU = ComputeConfig("cpu", 1)
Register = Callable[..., dict[str, Any]]


@pytest.fixture
def register_tiny(
    root: Path, prepared: Path, committed: Params, train_tiny: Callable[..., Path], request: pytest.FixtureRequest
) -> Register:
    """Return a function that registers the outputs of one tiny training under a model name of this test's own."""
    extractor(prepared, root / "extractor", compute=CPU, extractor=replace(committed.extractor, epochs=2))
    name = request.node.name.replace("_", "-")[:60]

    def run(folder: str = "trained", bounds: float = 1e9, **changes: Any) -> dict[str, Any]:
        place = root / folder if (root / folder).exists() else train_tiny(folder, **changes)
        generator, training = place / "generator.safetensors", place / "training"
        diagnosis, evaluation = place / "diagnosis", place / "evaluation"
        if not evaluation.exists():
            diagnose(training, diagnosis, doctor=committed.doctor)
            evaluate(prepared, root / "extractor", generator, evaluation, compute=CPU, evaluate=committed.evaluate)
        config = replace(committed.register, model_name=name, max_fid_ratio_to_real=bounds, max_fid_ratio_to_noise=1e9)
        names = ("data", "prepare", "extractor", "evaluate")
        sections = {section: getattr(committed, section) for section in names}
        outputs = generator, training, diagnosis, evaluation, place / "registration.json"
        register(prepared, *outputs, register=config, **sections)
        registered: dict[str, Any] = json.loads((place / "registration.json").read_text())
        return registered

    return run


def state(client: MlflowClient, registered: dict[str, Any]) -> tuple[Any, ...]:
    """Return what MLflow knows of a registration, without times."""
    run = client.get_run(registered["run_id"])
    histories = {name: len(client.get_metric_history(run.info.run_id, name)) for name in sorted(run.data.metrics)}
    pictures = sorted(file.path for file in client.list_artifacts(run.info.run_id, "images"))
    versions = client.search_model_versions(f"name = '{registered['model']}'")
    return (
        run.data.params,
        run.data.tags,
        histories,
        pictures,
        run.info.status,
        [version.version for version in versions],
    )


def without_system_metrics(state: tuple[Any, ...]) -> tuple[Any, ...]:
    params, tags, histories, *rest = state
    return params, tags, {name: count for name, count in histories.items() if not name.startswith("system/")}, *rest


def test_registering_twice_changes_nothing(register_tiny: Register) -> None:
    first = register_tiny()
    client, _ = connect()
    before = state(client, first)
    assert register_tiny() == first
    assert state(client, first) == before


def test_the_run_says_what_the_doctor_says(register_tiny: Register, root: Path) -> None:
    registered = register_tiny()
    client, _ = connect()
    said = json.loads((root / "trained" / "diagnosis" / "diagnosis.json").read_text())
    tags = client.get_run(registered["run_id"]).data.tags
    assert (tags["doctor.verdict"], tags["doctor.sentence"]) == (said["verdict"], said["sentence"])
    assert tags["mlflow.note.content"] == said["sentence"]
    files = [file.path for file in client.list_artifacts(registered["run_id"], "diagnosis")]
    assert files == ["diagnosis/instruments.png"]


def test_new_thresholds_change_what_the_run_says_but_not_what_a_person_wrote(
    register_tiny: Register, root: Path, committed: Params
) -> None:
    registered = register_tiny()
    client, _ = connect()
    run_id = registered["run_id"]
    place = root / "trained"
    for other, note in ((0.0, None), (1e9, "my own words")):
        if note is not None:
            client.set_tag(run_id, "mlflow.note.content", note)
        diagnose(place / "training", place / "diagnosis", doctor=replace(committed.doctor, min_variety=other))
        said = json.loads((place / "diagnosis" / "diagnosis.json").read_text())
        assert register_tiny() == registered
        tags = client.get_run(run_id).data.tags
        assert (tags["doctor.verdict"], tags["doctor.sentence"]) == (said["verdict"], said["sentence"])
        assert tags["doctor.picture"] == file_digest(place / "diagnosis" / "instruments.png")
        assert tags["mlflow.note.content"] == (note or said["sentence"])


def test_a_lost_tracking_server_is_rebuilt_from_the_outputs(
    register_tiny: Register, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = register_tiny(seed=11)  # no other test trains it, so the run is of this test alone
    client, _ = connect()
    before = without_system_metrics(state(client, first))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{root / 'fresh.db'}")
    second = register_tiny()
    client, _ = connect()
    after = without_system_metrics(state(client, second))
    assert second["run_id"] != first["run_id"]
    assert after[0] == before[0]
    assert after[1].keys() == before[1].keys()
    assert after[2] == before[2]
    assert len(after[3]) == len(before[3])
    assert (after[4], len(after[5])) == ("FINISHED", 1)


def test_scores_under_another_passport_get_a_run_and_a_version_of_their_own(
    register_tiny: Register, root: Path
) -> None:
    first = register_tiny()
    client, _ = connect()
    before = state(client, first)[:5]
    scores = root / "trained" / "evaluation" / "scores.json"
    scores.write_text(json.dumps(json.loads(scores.read_text()) | {"passport": "0" * 64, "fid_digits": 1.5}))
    second = register_tiny()
    assert (second["run_id"] != first["run_id"], second["version"] != first["version"]) == (True, True)
    assert state(client, first)[:5] == before
    assert client.get_run(second["run_id"]).data.metrics["fid_digits"] == 1.5
    assert register_tiny() == second


def test_the_first_version_within_the_bounds_becomes_champion(register_tiny: Register) -> None:
    client, _ = connect()
    poor = register_tiny("poor", bounds=1e-9)
    assert poor["within_bounds"] is False
    assert champion(client, poor["model"]) is None
    good = register_tiny("good", seed=1)
    assert champion(client, good["model"]) == good["version"]
    later = register_tiny("later", seed=2)
    assert later["version"] != good["version"]
    assert champion(client, good["model"]) == good["version"]


def test_a_version_knows_where_it_comes_from(register_tiny: Register, root: Path) -> None:
    registered = register_tiny()
    client, _ = connect()
    tags = client.get_model_version(registered["model"], registered["version"]).tags
    assert tags["generator.sha256"] == file_digest(root / "trained" / "generator.safetensors")
    facts = json.loads((root / "trained" / "training" / "training.json").read_text())
    assert tags["training.key"] == facts["key"]
    assert tags["data.dvc_md5"] == facts["data_md5"]
    scores = json.loads((root / "trained" / "evaluation" / "scores.json").read_text())
    assert tags["passport"] == scores["passport"]
    assert float(tags["fid_digits"]) == pytest.approx(scores["fid_digits"], rel=1e-3)


def git(*command: str) -> str:
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
    return subprocess.run(["git", *identity, *command], check=True, capture_output=True, text=True).stdout.strip()


def lineage(client: MlflowClient, registered: dict[str, Any], target: Path) -> dict[str, bytes]:
    """Return the files of a registered run's lineage by name."""
    target.mkdir()
    folder = Path(client.download_artifacts(registered["run_id"], "lineage", str(target)))
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_lineage_is_written_once_and_leads_back_to_the_working_tree(
    register_tiny: Register, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, text in (("params.yaml", "a: 1\n"), ("dvc.lock", "stages: {}\n"), ("stages/new.py", "")):
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_text(text)
    git("init", "-q")
    git("add", "params.yaml", "dvc.lock")
    git("commit", "-q", "-m", "a")
    commit = git("rev-parse", "HEAD")
    for name, text in (("params.yaml", "a: 2\n"), ("dvc.lock", "stages: {train: {deps: []}}\n")):
        (root / name).write_text(text)

    registered = register_tiny(seed=13)  # no other test trains it, so the run is of this test alone
    assert "git does not track stages/new.py" in capsys.readouterr().err
    client, _ = connect()
    files = lineage(client, registered, root / "first")
    names = ["changes.patch", "dvc.lock", "environment.txt", "files.json", "params.yaml"]
    assert sorted(files) == names
    assert files["dvc.lock"] == b"stages: {train: {deps: []}}\n"
    assert b"-a: 1\n+a: 2" in files["changes.patch"]
    assert b"dvc.lock" not in files["changes.patch"]
    assert f"torch=={version('torch')}" in files["environment.txt"].decode().splitlines()
    tags = client.get_model_version(registered["model"], registered["version"]).tags
    assert (tags["git.commit"], tags["git.untracked"]) == (f"{commit}-dirty", "stages/new.py")
    assert (tags["torch"], tags["device"]) == (version("torch"), f"{machine()} CPU, 1 thread(s)")

    git("add", ".")
    git("commit", "-q", "-m", "b")
    (root / "params.yaml").write_text("a: 3\n")
    assert register_tiny() == registered
    assert lineage(client, registered, root / "second") == files
    assert client.get_model_version(registered["model"], registered["version"]).tags == tags


def test_a_version_knows_the_flow_run_that_trained_it(
    register_tiny: Register, monkeypatch: pytest.MonkeyPatch, train_tiny: Callable[..., Path]
) -> None:
    monkeypatch.setenv("EQUILIBRIUM_FLOW_RUN_ID", "first")
    train_tiny("trained", seed=12)  # no other test trains it, so the run is of this test alone
    monkeypatch.setenv("EQUILIBRIUM_FLOW_RUN_ID", "second")
    registered = register_tiny()
    client, _ = connect()
    tags = client.get_model_version(registered["model"], registered["version"]).tags
    assert tags["prefect.flow_run_id"] == "first"


@pytest.mark.parametrize(
    ("to_real", "to_noise", "expected"),
    [(2.5, 0.03, True), (2.6, 0.03, False), (2.5, 0.031, False), (0.9, 0.001, True)],
)
def test_both_bounds_must_hold(to_real: float, to_noise: float, expected: bool) -> None:
    scores = {"fid": 1.0, "fid_to_real": to_real, "fid_to_noise": to_noise, "is": 2.0}
    assert within_bounds(scores, RegisterConfig("m", 2.5, 0.03)) is expected


PREDICT = """
import hashlib, mlflow, pandas as pd, sys
model = mlflow.pyfunc.load_model(sys.argv[1])
frame = model.predict(pd.DataFrame({"seed": [3, 5], "count": [2, 1]}))
alone = model.predict(pd.DataFrame({"seed": [5]}))
assert list(frame.seed) == [3, 3, 5] and list(frame.number) == [0, 1, 0]
assert frame.png[2] == alone.png[0] and frame.png[0] != frame.png[1]
print(*[hashlib.sha256(png).hexdigest() for png in frame.png])
"""


@pytest.mark.slow
def test_the_champion_loads_without_pickle_and_gives_the_same_pixels_in_fresh_processes(
    register_tiny: Register, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    registered = register_tiny()
    monkeypatch.setenv("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "false")
    elsewhere = root / "elsewhere"
    elsewhere.mkdir()
    command = [sys.executable, "-c", PREDICT, f"models:/{registered['model']}@champion"]
    said = [
        subprocess.run(command, cwd=elsewhere, capture_output=True, text=True, check=True).stdout.split()
        for _ in range(2)
    ]
    assert said[0] == said[1]
    assert len(said[0]) == 3
