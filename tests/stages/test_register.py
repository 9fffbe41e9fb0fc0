import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from platform import machine
from typing import Any

import pandas as pd
import pytest
from mlflow import MlflowClient

from gan_core.augmentation.augment import NONE
from gan_core.config import ComputeConfig
from gan_core.metrics.intervals import Interval
from gan_core.metrics.utility.gain import WAYS
from mlops.cards.model_card import plain
from mlops.project.errors import UserError
from mlops.project.identity import file_digest
from mlops.project.params import ChooseConfig, Params
from mlops.project.result_files import UTILITY
from mlops.promotion.ledger import LEDGER
from mlops.scoring.comparison import compare, shown_interval
from mlops.scoring.evaluation_files import read_evaluation, write_evaluation
from mlops.scoring.passport import PassportError
from mlops.scoring.utility import Utility, write_utility
from mlops.tracking.runs import connect
from mlops.tracking.versions import champion
from stages.choose import choose
from stages.diagnose import diagnose
from stages.evaluate import evaluate
from stages.extractor import extractor
from stages.register import register
from tests.decisions import changed, decision, leaves

CPU = ComputeConfig("cpu", 1)
Register = Callable[..., dict[str, Any]]


@pytest.fixture
def register_tiny(root: Path, prepared: Path, committed: Params, train_tiny: Callable[..., Path]) -> Register:
    """Return a function that registers the outputs of one tiny training under a model name of this test's own."""
    extractor(prepared, root / "extractor", compute=CPU, extractor=replace(committed.extractor, epochs=2))
    name = root.name.replace("_", "-")

    def run(folder: str = "trained", bounds: float = 1e9, **changes: Any) -> dict[str, Any]:
        place = root / folder if (root / folder).exists() else train_tiny(folder, **changes)
        generator, training, choice = (place / name for name in ("generator.safetensors", "training", "choice"))
        diagnosis, evaluation = place / "diagnosis", place / "evaluation"
        if not evaluation.exists():
            inputs = prepared, root / "extractor", generator
            chosen = place / "snapshots", root / "replicated", generator, place / "replicas", choice
            choose(*inputs[:2], *chosen, compute=CPU, choose=ChooseConfig("last", 20))
            diagnose(
                *inputs,
                training,
                diagnosis,
                compute=CPU,
                augmentation=NONE,
                doctor=replace(committed.doctor, min_images=0),
            )
            few = replace(committed.evaluate, banks=4)
            evaluate(
                *inputs,
                root / "replicas",
                evaluation,
                compute=CPU,
                execution=committed.execution,
                train=committed.train,
                evaluate=few,
            )
        wide: dict[str, Any] = {"max_fid_ratio_to_noise": 1e9, "max_excess_near_copies": 1.0}
        config = replace(committed.register, model_name=name, max_fid_to_trivial=bounds, **wide)
        names = ("data", "prepare", "extractor", "evaluate")
        sections = {section: getattr(committed, section) for section in names}
        outputs = generator, training, choice, diagnosis, evaluation, place / "registration.json"
        register(prepared, *outputs, register=config, **sections)
        registered: dict[str, Any] = json.loads((place / "registration.json").read_text())
        return registered

    return run


def state(client: MlflowClient, registered: dict[str, Any]) -> tuple[Any, ...]:
    """Return what MLflow knows of a registration, without times."""
    run = client.get_run(registered["run_id"])
    histories = {name: len(client.get_metric_history(run.info.run_id, name)) for name in sorted(run.data.metrics)}
    pictures = sorted(file.path for file in client.list_artifacts(run.info.run_id, "samples"))
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


def score_otherwise(folder: Path, field: str, fid: float) -> None:
    """Change the FID of an evaluation, and the passport under which it was measured."""
    old = read_evaluation("it", folder)
    scores = old.scores | {"fid": replace(old.scores["fid"], over_banks=Interval(fid, fid, fid))}
    write_evaluation(replace(old, scores=scores, passport=changed(old.passport, field)), folder)


def test_registering_twice_changes_nothing(register_tiny: Register, root: Path) -> None:
    first = register_tiny()
    client, _ = connect()
    before, decided = state(client, first), (root / LEDGER).read_bytes()
    assert register_tiny() == first
    assert state(client, first) == before
    assert (root / LEDGER).read_bytes() == decided


def test_the_scores_of_snapshots_are_a_curve_and_the_step_a_tag(register_tiny: Register, root: Path) -> None:
    registered = register_tiny()
    client, _ = connect()
    points = client.get_metric_history(registered["run_id"], "training/validation_kid_digits")
    rows = (root / "trained" / "choice" / "snapshots.csv").read_text().splitlines()[1:]
    written = [(point.step, point.value) for point in points]
    assert written == [(int(row.split(",")[0]), float(row.split(",")[1])) for row in rows]
    assert [step for step, _ in written] == [8, 16, 24]
    assert client.get_model_version(registered["model"], registered["version"]).tags["generator.step"] == "24 of 24"


def test_whether_the_generator_helps_is_in_the_run_and_on_the_card(register_tiny: Register, root: Path) -> None:
    client, _ = connect()
    first = register_tiny()
    assert "utility_gain" not in client.get_run(first["run_id"]).data.metrics
    accuracies = {way: [0.9, 0.91] for way in WAYS} | {"shifted_generated": [0.95, 0.97]}
    write_utility(Utility(accuracies, False, 1206, 436, 1000), root / "trained" / "evaluation")
    registered = register_tiny()
    assert registered == first  # nothing is decided by it
    metrics = client.get_run(registered["run_id"]).data.metrics
    assert metrics["utility_gain"] == pytest.approx(0.055)
    assert metrics["utility_real"] == pytest.approx(0.905)
    files = {file.path for file in client.list_artifacts(registered["run_id"], "evaluation")}
    assert f"evaluation/{UTILITY}" in files
    card = client.get_model_version(registered["model"], registered["version"]).description
    assert "**Utility:** It cannot be told whether the generator helps" in str(card)  # two seeds


def test_the_run_says_what_the_doctor_says(register_tiny: Register, root: Path) -> None:
    registered = register_tiny()
    client, _ = connect()
    said = json.loads((root / "trained" / "diagnosis" / "diagnosis.json").read_text())
    tags = client.get_run(registered["run_id"]).data.tags
    assert (tags["doctor.verdict"], tags["doctor.sentence"]) == (said["verdict"], said["sentence"])
    assert f"**The doctor:** {plain(said['sentence'])}" in tags["mlflow.note.content"]
    files = [file.path for file in client.list_artifacts(registered["run_id"], "diagnosis")]
    assert files == ["diagnosis/instruments.png"]


def test_new_thresholds_change_what_the_run_says_but_not_what_a_person_wrote(
    register_tiny: Register, root: Path, prepared: Path, committed: Params
) -> None:
    registered = register_tiny()
    client, _ = connect()
    run_id = registered["run_id"]
    place = root / "trained"
    for other, note in ((0.0, None), (1e9, "my own words")):
        if note is not None:
            client.set_tag(run_id, "mlflow.note.content", note)
        doctor = replace(committed.doctor, min_images=0, min_variety=other)
        inputs = prepared, root / "extractor", place / "generator.safetensors", place / "training"
        diagnose(*inputs, place / "diagnosis", compute=CPU, augmentation=NONE, doctor=doctor)
        said = json.loads((place / "diagnosis" / "diagnosis.json").read_text())
        assert register_tiny() == registered
        tags = client.get_run(run_id).data.tags
        assert (tags["doctor.verdict"], tags["doctor.sentence"]) == (said["verdict"], said["sentence"])
        assert tags["doctor.picture"] == file_digest(place / "diagnosis" / "instruments.png")
        assert (note or plain(said["sentence"])) in tags["mlflow.note.content"]


def place_as_links(folder: Path, cache: Path) -> None:
    """Place all files as DVC does with `cache.type symlink`: as links to read-only ones."""
    for number, path in enumerate(path for path in sorted(folder.rglob("*")) if path.is_file()):
        cached = cache / str(number)
        cache.mkdir(exist_ok=True)
        path.rename(cached)
        cached.chmod(0o444)
        if path.name != "registration.json":  # DVC does not cache it
            path.symlink_to(cached)


def test_a_lost_tracking_server_is_rebuilt_from_the_outputs(
    register_tiny: Register, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = register_tiny(seed=11)  # no other test trains it, so the run is of this test alone
    client, _ = connect()
    before = without_system_metrics(state(client, first))
    place_as_links(root / "trained", root / "cache")
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
    assert champion(client, second["model"]) == second["version"]
    assert (second["decision"], len((root / LEDGER).read_bytes().splitlines())) == ("promoted", 1)


def test_scores_under_another_passport_get_a_run_and_a_version_of_their_own(
    register_tiny: Register, root: Path
) -> None:
    first = register_tiny()
    client, _ = connect()
    before = state(client, first)[:5]
    score_otherwise(root / "trained" / "evaluation", "device", fid=1.5)
    second = register_tiny()
    assert second["decision"] == "scored again"
    assert champion(client, first["model"]) == second["version"]
    version = client.get_model_version(second["model"], second["version"])
    assert str(version.description).startswith("Champion since ")
    assert (second["run_id"] != first["run_id"], second["version"] != first["version"]) == (True, True)
    assert state(client, first)[:5] == before
    assert client.get_run(second["run_id"]).data.metrics["fid_digits"] == 1.5
    assert register_tiny() == second


def test_scores_of_trainings_that_came_later_reach_run_and_ledger(register_tiny: Register, root: Path) -> None:
    first = register_tiny()
    banks = root / "trained" / "evaluation" / "banks.csv"
    rows = pd.read_csv(banks)
    pd.concat([rows, rows.assign(training=1)]).to_csv(banks, index=False)
    assert register_tiny()["version"] == first["version"]
    client, _ = connect()
    there = Path(client.download_artifacts(first["run_id"], "evaluation/banks.csv", str(root)))
    assert there.read_bytes() == banks.read_bytes()
    *_, last = map(json.loads, (root / LEDGER).read_text().splitlines())
    assert last["action"] == "scored again"
    assert {len(trainings) for trainings in last["evidence"]["banks"].values()} == {2}


def test_the_gate_decides_and_the_registration_says_what(register_tiny: Register) -> None:
    client, _ = connect()
    poor = register_tiny("poor", bounds=1e-9)
    assert (poor["within_bounds"], poor["decision"]) == (False, "refused")
    assert "register.max_fid_to_trivial" in poor["reason"]
    assert champion(client, poor["model"]) is None
    good = register_tiny("good", seed=1)
    assert (good["within_bounds"], good["decision"]) == (True, "promoted")
    assert champion(client, good["model"]) == good["version"]
    later = register_tiny("later", seed=2)
    assert later["version"] != good["version"]
    outcome = (later["decision"], client.get_model_version(good["model"], later["version"]).tags["verdict"])
    number = good["version"]
    assert outcome in [
        ("promoted", f"better than {number}"),
        ("refused", f"worse than {number}"),
        ("refused", f"cannot tell from {number}"),
    ]
    reigning = later if later["decision"] == "promoted" else good
    assert champion(client, good["model"]) == reigning["version"]
    tags = client.get_model_version(good["model"], later["version"]).tags
    assert (tags["gate.decision"], tags["gate.reason"]) == (later["decision"], later["reason"])
    assert 0 <= float(tags["gate.p_value"]) <= 1


def test_a_candidate_under_another_passport_is_refused_with_the_field_named(
    register_tiny: Register, root: Path
) -> None:
    first = register_tiny()
    register_tiny("other", bounds=1e-9, seed=1)
    score_otherwise(root / "other" / "evaluation", "threads", fid=0.01)
    refused = register_tiny("other")
    assert refused["decision"] == "refused"
    assert "threads: 1 and 2" in refused["reason"]
    assert champion(connect()[0], first["model"]) == first["version"]


def test_every_field_of_a_real_passport_refuses(register_tiny: Register, root: Path, committed: Params) -> None:
    register_tiny()
    champion = read_evaluation("the champion", root / "trained" / "evaluation")
    wide = replace(committed.register, max_fid_to_trivial=1e9, max_fid_ratio_to_noise=1e9, max_excess_near_copies=1.0)
    fields = leaves(champion.passport)
    assert len(fields) > 25
    for field in fields:
        other = replace(champion, name="the candidate", passport=changed(champion.passport, field))
        refused = decision(other, champion, wide)
        assert (refused.action, refused.comparison) == ("refused", None)
        assert f" {field}: " in refused.reason
        with pytest.raises(PassportError, match=field):
            compare(champion, other, "fid", "sampling", 0.05)


def test_scores_without_their_own_passport_are_refused(register_tiny: Register, root: Path) -> None:
    register_tiny()
    passport = root / "trained" / "evaluation" / "passport.json"
    passport.write_text(json.dumps(changed(json.loads(passport.read_text()), "device")))
    with pytest.raises(UserError, match=str(passport)):
        register_tiny()


def test_a_crash_before_the_alias_is_repaired_by_the_next_run(
    register_tiny: Register, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def crash(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(MlflowClient, "set_registered_model_alias", crash)
        with pytest.raises(KeyboardInterrupt):
            register_tiny()
    assert len((root / LEDGER).read_bytes().splitlines()) == 1
    again = register_tiny()
    assert again["decision"] == "promoted"
    assert champion(connect()[0], again["model"]) == again["version"]
    assert len((root / LEDGER).read_bytes().splitlines()) == 1


def test_where_mlflow_lacks_the_champion_the_ledger_decides_and_the_remedy_is_said(
    register_tiny: Register, root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    register_tiny()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{root / 'fresh.db'}")
    other = register_tiny("other", seed=1)
    assert "the champion (decision 1 of ledger.jsonl" in other["reason"]
    said = capsys.readouterr().out
    promoted = other["decision"] == "promoted"
    assert champion(connect()[0], other["model"]) == (other["version"] if promoted else None)
    assert promoted or {"MLFLOW_TRACKING_URI", "pull"} <= set(said.split())


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
    fid = Interval(*(scores["fid_digits"][end] for end in ("mean", "low", "high")))
    assert tags["fid_digits"] == shown_interval(fid)


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
