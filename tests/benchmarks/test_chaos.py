import shutil
from pathlib import Path

import pytest
from mlflow import MlflowClient

from benchmarks.chaos import Watched, differences
from mlops.project.result_files import HISTORY, SAMPLES, load_history, load_json
from mlops.tracking.store import tracking_uri
from tests.project import Project


def test_what_mlflow_lacks_or_has_twice_is_named(
    finished: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = finished.copy(tmp_path / "project")
    monkeypatch.setenv("DVC_ROOT", str(project.root))
    client, training = MlflowClient(tracking_uri()), project.root / "reports" / "training"
    run = load_json(project.root / "reports" / "registration.json")["run_id"]
    assert differences(client, run, training) == []
    client.log_metric(run, "training/g_loss", load_history(training / HISTORY)[0]["g_loss"], step=0)
    assert differences(client, run, training) == ["g_loss"]
    grid, *_ = sorted((training / SAMPLES).iterdir())
    shutil.copyfile(grid, grid.with_name("step_99999999.png"))
    assert differences(client, run, training) == ["g_loss", SAMPLES]


def test_the_longest_time_between_rows() -> None:
    watched = Watched(Path("nowhere"))
    assert not watched.rows()
    watched.times += [1.0, 1.5, 3.5, 4.0]
    assert watched.rows()
    assert watched.longest() == 2.0
