import csv
import fcntl
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from mlflow import MlflowClient
from mlflow.entities import Run
from PIL import Image

import gan_core.training.loop
import mlops.runs.run
from gan_core.generation.generator_file import load_generator
from gan_core.runtime.tensor_files import load_tensors
from mlops.project.errors import UserError
from mlops.project.result_files import grids, snapshots
from mlops.runs.workspace import Workspace
from mlops.tracking.runs import connect, find_run
from tests.gan_core.examples import ADAPTIVE

Train = Callable[..., Path]
ROOT = Path(__file__).parents[2]


class Killed(BaseException):
    pass


def contents(folder: Path) -> dict[str, bytes]:
    """Return what must not depend on when and where a training ran."""
    files = [path for path in folder.rglob("*") if path.is_file() and path.name != "speed.json"]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


@contextmanager
def killed_after(step: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Make the training in this block die after a step, as by a signal."""

    def played(*arguments: Any) -> Iterator[Any]:
        for report in gan_core.training.loop.train(*arguments):
            yield report
            if report.step == step:
                raise Killed

    with monkeypatch.context() as patch, pytest.raises(Killed):  # noqa: PT012  # the block is the caller's
        patch.setattr(mlops.runs.run, "train", played)
        patch.setattr("mlops.tracking.live_run.LAST_STOPPED", 60.0)  # MLflow has time on a busy machine, too
        yield


def test_the_same_seed_writes_the_same_bytes_and_another_does_not(train_tiny: Train) -> None:
    first, second, other = train_tiny("first"), train_tiny("second"), train_tiny("other", seed=1)
    assert contents(first) == contents(second)
    assert {name for name in contents(first) if contents(first)[name] != contents(other)[name]} == set(contents(first))


@pytest.mark.parametrize("step", [1, 6, 7, 13, 23])
def test_stopping_and_going_on_equals_never_stopping(
    step: int, train_tiny: Train, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = train_tiny("whole")
    with killed_after(step, monkeypatch):
        train_tiny("stopped")
    assert (step >= 6) == any((root / ".checkpoints").rglob("state.safetensors"))
    assert contents(train_tiny("resumed")) == contents(whole)


def test_a_conditional_training_goes_on_and_says_its_classes(
    train_tiny: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = train_tiny("whole", conditional=True, class_balance="uniform")
    with killed_after(7, monkeypatch):
        train_tiny("stopped", conditional=True, class_balance="uniform")
    assert contents(train_tiny("resumed", conditional=True, class_balance="uniform")) == contents(whole)
    assert load_generator(whole / "generator.safetensors").classes == tuple("0123456789")
    # Ten rows of ten images, a row a class.
    with Image.open(grids(whole / "training" / "samples")[24]) as picture:
        assert picture.width == picture.height


@pytest.mark.parametrize("step", [1, 6, 13])
def test_a_signal_saves_the_present_step_and_the_run_goes_on(
    step: int, train_tiny: Train, root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = train_tiny("whole", seed=40 + step)
    stops_at = iter([False] * (step - 1) + [True])
    with monkeypatch.context() as patch:
        patch.setattr(mlops.runs.run, "asked_to_stop", lambda: next(stops_at))
        patch.setattr("mlops.tracking.live_run.LAST_STOPPED", 60.0)
        with pytest.raises(SystemExit) as stopped:
            train_tiny("stopped", seed=40 + step)
    assert stopped.value.code == 143
    assert f"stopped at step {step} of 24; " in capsys.readouterr().out
    assert load_tensors(next((root / ".checkpoints").rglob("state.safetensors")))[1]["step"] == step
    client, experiment = connect()
    query = f"params.`train.seed` = '{40 + step}'"
    assert {run.info.status for run in client.search_runs([experiment], query)} == {"KILLED"}
    assert contents(train_tiny("resumed", seed=40 + step)) == contents(whole)
    assert f"going on from step {step} of 24" in capsys.readouterr().out
    assert [run.info.status for run in client.search_runs([experiment], query)] == ["FINISHED"]


def test_a_signal_after_the_last_step_ends_nothing(train_tiny: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    stops_at = iter([False] * 23 + [True])
    monkeypatch.setattr(mlops.runs.run, "asked_to_stop", lambda: next(stops_at))
    assert (train_tiny("whole") / "generator.safetensors").exists()


def test_a_checkpoint_is_saved_after_a_while_too(
    train_tiny: Train, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mlops.runs.run, "SAVED_EVERY", -1.0)
    with killed_after(15, monkeypatch):
        train_tiny("stopped")
    # no multiple of `checkpoint_every`
    assert load_tensors(next((root / ".checkpoints").rglob("state.safetensors")))[1]["step"] == 15


def test_a_resumed_training_says_where_it_goes_on(
    train_tiny: Train, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with killed_after(14, monkeypatch):
        train_tiny("stopped")
    train_tiny("resumed")
    assert "going on from step 12 of 24" in capsys.readouterr().out


def test_other_parameters_do_not_go_on_from_a_checkpoint(
    train_tiny: Train, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with killed_after(14, monkeypatch):
        train_tiny("stopped")
    train_tiny("other", beta2=0.9)
    assert "going on" not in capsys.readouterr().out


def test_a_finished_training_is_not_trained_again_as_long_as_dvc_has_not_recorded_it(
    train_tiny: Train, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = SimpleNamespace(monotonic=partial(next, count()))  # every look at it is a second
    monkeypatch.setattr("mlops.runs.workspace.time", clock)
    whole = train_tiny("whole", seed=30, kept=True)
    with monkeypatch.context() as patch:
        patch.setattr("gan_core.training.execution.train_step", lambda *_: pytest.fail("a step is computed"))
        again = train_tiny("again", seed=30)
    assert "finished already" in capsys.readouterr().out
    assert contents(again) == contents(whole)
    speeds = [json.loads((folder / "training" / "speed.json").read_text()) for folder in (whole, again)]
    assert speeds[0] == speeds[1]
    client, experiment = connect()
    (run,) = client.search_runs([experiment], "params.`train.seed` = '30'")
    assert run.info.status == "FINISHED"
    history = client.get_metric_history(run.info.run_id, "training/d_loss")
    assert [metric.step for metric in history] == [4, 8, 12, 16, 20, 24]


def test_history_has_a_row_each_report_and_one_for_the_last_step(train_tiny: Train) -> None:
    with (train_tiny("odd", report_every=5) / "training" / "history.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["step"]) for row in rows] == [5, 10, 15, 20, 24]
    assert [int(row["images_seen"]) for row in rows] == [8 * step for step in (5, 10, 15, 20, 24)]
    assert all(0 < float(row[name]) < 1 for row in rows for name in ("real_prob", "fake_prob"))


def test_grids_are_of_the_steps_that_were_asked_for(train_tiny: Train) -> None:
    assert list(grids(train_tiny("whole", sample_every=10) / "training" / "samples")) == [0, 10, 20, 24]


def test_snapshots_are_the_generators_of_their_steps(train_tiny: Train) -> None:
    whole = snapshots(train_tiny("whole") / "snapshots")
    assert list(whole) == [8, 16, 24]
    assert len({path.read_bytes() for path in whole.values()}) == 3
    constant = {"generator_learning_rate": 1e-3, "discriminator_learning_rate": 1e-3}  # so a shorter one goes as far
    longer, shorter = (
        snapshots(train_tiny(f"{steps}", steps=steps, snapshots=count, **constant) / "snapshots")
        for steps, count in ((24, 3), (16, 1))
    )
    assert longer[16].read_bytes() == shorter[16].read_bytes()


def test_a_loss_that_is_not_finite_ends_the_training_with_its_step(train_tiny: Train) -> None:
    said = r"training stopped: divergence, seen since step \d+: .* not finite\. Try: lower both"
    with pytest.raises(UserError, match=said):
        train_tiny("wild", seed=21, generator_learning_rate=1e30, discriminator_learning_rate=1e30)
    client, experiment = connect()
    (run,) = client.search_runs([experiment], "params.`train.seed` = '21'")
    assert run.info.status == "FAILED"
    assert run.data.tags["doctor.verdict"] == "divergence"
    assert re.match(r"divergence, seen since step \d+", run.data.tags["mlflow.note.content"])


def test_a_second_trainer_is_told_who_holds_the_checkpoint(
    train_tiny: Train, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with killed_after(14, monkeypatch):
        train_tiny("stopped")
    (lock,) = (root / ".checkpoints").rglob("lock")
    with lock.open("w") as file:
        file.write("4711")
        file.flush()
        fcntl.flock(file, fcntl.LOCK_EX)
        monkeypatch.setattr(Workspace.__init__, "__kwdefaults__", {"wait": 0.5})
        with pytest.raises(UserError, match="`kill 4711`"):
            train_tiny("second")


def test_outputs_that_are_there_are_refused_before_the_work(train_tiny: Train, root: Path) -> None:
    (root / "twice" / "training").mkdir(parents=True)
    with pytest.raises(UserError, match="twice/training"):
        train_tiny("twice")


def run_of(folder: Path) -> tuple[MlflowClient, Any]:
    key = json.loads((folder / "training" / "training.json").read_text())["key"]
    client, experiment = connect()
    run = find_run(client, experiment, key)
    assert run is not None
    return client, run


def test_mlflow_shows_the_training(train_tiny: Train) -> None:
    client, run = run_of(train_tiny("shown", seed=3))
    assert run.info.status == "FINISHED"
    assert run.data.params["train.seed"] == "3"
    assert run.data.params["network.family"] == "mlp"
    history = client.get_metric_history(run.info.run_id, "training/d_loss")
    assert [metric.step for metric in history] == [4, 8, 12, 16, 20, 24]
    pictures = [file.path for file in client.list_artifacts(run.info.run_id, "samples")]
    assert pictures == [f"samples/step_{step:08}.png" for step in (0, 12, 24)]
    assert run.info.run_name.startswith("relativistic 24 s3 mlp digits ")
    assert run.data.tags["data"] == "digits"
    (data,) = run.inputs.dataset_inputs
    assert data.dataset.name == "digits"
    assert run.data.tags["data.dvc_md5"] == data.dataset.digest


def test_a_resumed_training_goes_on_in_its_run_without_doubling_rows(
    train_tiny: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    with killed_after(16, monkeypatch):
        train_tiny("stopped", seed=4)
    client, run = run_of(train_tiny("resumed", seed=4))
    history = client.get_metric_history(run.info.run_id, "training/g_loss")
    assert [metric.step for metric in history] == [4, 8, 12, 16, 20, 24]
    assert run.info.status == "FINISHED"


def test_a_killed_training_is_killed_in_mlflow(train_tiny: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    with killed_after(16, monkeypatch):
        train_tiny("stopped", seed=5)
    client, experiment = connect()
    runs = client.search_runs([experiment], "params.`train.seed` = '5'")
    assert [run.info.status for run in runs] == ["KILLED"]


def test_who_is_told_to_end_closes_its_run(root: Path, prepared: Path) -> None:
    values = yaml.safe_load((ROOT / "params.yaml").read_text())
    values["train"] |= {"steps": 10**8, "checkpoint_every": 50, "seed": 7}
    (root / "params.yaml").write_text(yaml.safe_dump(values))
    client, experiment = connect()

    def runs() -> list[Run]:
        return [*client.search_runs([experiment], "params.`train.seed` = '7'")]

    process = subprocess.Popen(
        [sys.executable, "-m", "stages", "train", str(prepared), "snapshots", "training"],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stderr=subprocess.DEVNULL,
    )
    while not any(run.data.metrics for run in runs()):  # of the machine, or of the training: the run is open
        assert process.poll() is None
        time.sleep(0.1)
    process.terminate()
    assert process.wait() == 143
    assert [run.info.status for run in runs()] == ["KILLED"]


def test_a_lost_mlflow_is_said_once_and_ends_nothing(
    train_tiny: Train, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from mlflow.exceptions import MlflowException

    from mlops.tracking.run_writer import RunWriter

    def lost(*_: object) -> None:
        raise MlflowException("connection refused")

    monkeypatch.setattr(RunWriter, "write_rows", lost)
    monkeypatch.setattr(RunWriter, "write_grid", lost)
    folder = train_tiny("alone", seed=6)
    assert (folder / "generator.safetensors").is_file()
    assert capsys.readouterr().err.count("MLflow does not answer") == 1


def test_a_probability_that_adapts_is_a_column_and_a_curve_of_no_other_training(train_tiny: Train) -> None:
    columns = {}
    for name, augmentation in (("ada", ADAPTIVE), ("given", replace(ADAPTIVE, probability=0.3))):
        history = train_tiny(name, augmentation=augmentation) / "training" / "history.csv"
        columns[name] = history.read_text().splitlines()[0].split(",")
    assert columns["ada"] == [*columns["given"], "augment_probability"]
