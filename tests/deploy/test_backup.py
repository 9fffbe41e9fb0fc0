"""Backup, wipe and restore of a team's servers."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest
from mlflow.entities import Metric

from mlops.tracking.runs import connect
from tests.deploy.team import Team
from tests.project import ROOT
from tests.servers import TIMEOUT

pytestmark = pytest.mark.slow


def data(team: Team, command: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Back up or restore."""
    return subprocess.run(
        [sys.executable, "-m", f"deploy.{command}", str(folder)],
        cwd=ROOT,
        env=team.environment("mlflow"),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )


def record(folder: Path) -> None:
    """Write a run with all that a run can have, and a version of a model with an alias."""
    client, experiment = connect()
    run = client.create_run(experiment, tags={"kind": "kept"}).info.run_id
    client.log_batch(run, metrics=[Metric("loss", 1 / (step + 1), 0, step) for step in range(20)])
    client.log_param(run, "seed", "0 · ü")
    for name, size in (("small ü.txt", 10), ("large.bin", 9_000_000)):  # boto3 sends the second in parts
        (folder / name).write_bytes(os.urandom(size))
        client.log_artifact(run, str(folder / name), "some folder")
    client.create_registered_model("kept")
    version = client.create_model_version("kept", f"runs:/{run}/some folder", run).version
    client.set_registered_model_alias("kept", "champion", version)
    client.set_terminated(run)


def everything(folder: Path) -> dict[str, Any]:
    """Return all that MLflow has: runs with metrics and artifacts, versions and aliases."""
    client, experiment = connect()
    found: dict[str, Any] = {}
    for run in client.search_runs([experiment], max_results=1000):
        id_ = run.info.run_id
        history = [client.get_metric_history(id_, name) for name in sorted(run.data.metrics)]
        target = folder / id_
        target.mkdir(parents=True)
        if client.list_artifacts(id_):
            client.download_artifacts(id_, "", str(target))
        files = [path for path in sorted(target.rglob("*")) if path.is_file()]
        digests = {str(path.relative_to(target)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
        values = [[(metric.key, metric.step, metric.value) for metric in metrics] for metrics in history]
        found[id_] = (run.info.status, run.data.params, run.data.tags, values, digests)
    versions = [(version.name, version.version, version.run_id) for version in client.search_model_versions()]
    models = [(model.name, model.aliases) for model in client.search_registered_models()]
    return found | {"versions": sorted(versions), "models": models}


def flow_runs(team: Team) -> set[str]:
    address, (name, password) = team.client["PREFECT_API_URL"], team.client["PREFECT_API_AUTH_STRING"].split(":")
    answer = httpx.post(f"{address}/flow_runs/filter", json={}, auth=(name, password), timeout=TIMEOUT)
    return {run["id"] for run in answer.json()}


def wipe(team: Team) -> None:
    """Delete everything; MLflow and Prefect are stopped."""
    for name in ("mlflow", "mlflow_auth", "prefect", "optuna"):
        assert team.psql("-d", "postgres", "-c", f"DROP DATABASE {name}").returncode == 0
    for content in team.s3.list_objects_v2(Bucket="mlflow").get("Contents", []):
        team.s3.delete_object(Bucket="mlflow", Key=content["Key"])


def test_a_restored_backup_has_everything(team: Team, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in team.client.items():
        monkeypatch.setenv(name, value)
    record(tmp_path)
    before, flows = everything(tmp_path / "before"), flow_runs(team)
    backup = tmp_path / "backup"
    assert data(team, "backup", backup).returncode == 0
    again = data(team, "backup", backup)
    assert (again.returncode, again.stdout.count("\n")) == (1, 1)
    occupied = data(team, "restore", backup)
    assert occupied.returncode == 1
    assert occupied.stdout.startswith("error: database ")
    team.stop("mlflow", "prefect")
    try:
        wipe(team)
        restored = data(team, "restore", backup)
    finally:
        team.start("mlflow", "prefect")
    assert restored.returncode == 0, restored.stdout
    assert everything(tmp_path / "after") == before
    assert flow_runs(team) == flows
    damaged = next(path for path in (backup / "objects").rglob("*") if path.is_file())
    damaged.write_bytes(b"another")
    refused = data(team, "restore", backup)
    assert refused.returncode == 1
    assert str(damaged) in refused.stdout
