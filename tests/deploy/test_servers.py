"""MLflow, Prefect and the store on a real PostgreSQL: log-ins, writers side by side, a pipeline, a sweep."""

import base64
import json
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import boto3
import httpx
import optuna
import pandas as pd
import pytest
from botocore.exceptions import ClientError
from mlflow import MlflowClient
from mlflow.entities import Metric

from mlops.tracking.runs import connect
from tests.chaos import chaos
from tests.deploy.team import SECRETS, Team
from tests.project import ROOT, Project, environment
from tests.servers import BIN, FLOW_TIMEOUT, QUIET, TIMEOUT, running, wait_for

pytestmark = pytest.mark.slow
WRITERS, BATCHES, METRICS = 8, 5, 200
WRONG = [None, ("", ""), ("lead", "wrong-of-a-test"), ("admin", "password1234"), ("team", "wrong")]
"""Log-ins, among them those that MLflow once came with."""


def basic(login: tuple[str, str] | None) -> dict[str, str]:
    """Return the header of a log-in."""
    return {} if login is None else {"Authorization": "Basic " + base64.b64encode(":".join(login).encode()).decode()}


@pytest.mark.parametrize("login", WRONG)
def test_mlflow_and_prefect_refuse(team: Team, login: tuple[str, str] | None) -> None:
    mlflow, prefect = team.client["MLFLOW_TRACKING_URI"], team.client["PREFECT_API_URL"]
    asked: dict[str, Any] = {"headers": basic(login), "timeout": TIMEOUT}
    answers = [
        httpx.get(f"{mlflow}/api/2.0/mlflow/experiments/get?experiment_id=0", **asked),
        httpx.get(f"{mlflow}/api/2.0/mlflow-artifacts/artifacts", **asked),
        httpx.put(f"{mlflow}/api/2.0/mlflow-artifacts/artifacts/0/a", content=b"a", **asked),
        httpx.get(f"{mlflow}/", **asked),
        httpx.post(f"{prefect}/flow_runs/filter", json={}, **asked),
        httpx.get(f"{prefect}/admin/settings", **asked),
        httpx.post(f"{prefect}/work_pools/", json={"name": "a"}, **asked),
    ]
    assert [answer.status_code for answer in answers] == [401] * len(answers)


@pytest.mark.parametrize("password", ["", "equilibrium", "postgres"])
@pytest.mark.parametrize("user", ["equilibrium", "postgres"])
def test_postgresql_refuses(team: Team, user: str, password: str) -> None:
    ended = team.psql("-w", "-c", "SELECT 1", PGDATABASE="mlflow", PGUSER=user, PGPASSWORD=password)
    assert ended.returncode == 2
    assert ended.stdout == ""


def test_a_new_store_has_the_bucket_of_mlflow(team: Team) -> None:
    assert [bucket["Name"] for bucket in team.s3.list_buckets()["Buckets"]] == ["mlflow"]


@pytest.mark.parametrize("key", [None, ("any", "any"), (SECRETS["STORE_ACCESS_KEY"], "wrong")])
def test_the_store_refuses(team: Team, key: tuple[str, str] | None) -> None:
    address = team.services["mlflow"]["environment"]["MLFLOW_S3_ENDPOINT_URL"]
    team.s3.put_object(Bucket="mlflow", Key="secret", Body=b"content")
    if key is None:
        answers = [httpx.get(f"{address}{path}", timeout=TIMEOUT) for path in ("/", "/mlflow", "/mlflow/secret")]
        answers.append(httpx.put(f"{address}/mlflow/new", content=b"a", timeout=TIMEOUT))
        assert [answer.status_code for answer in answers] == [403] * 4
    else:
        client = boto3.client(
            "s3", endpoint_url=address, aws_access_key_id=key[0], aws_secret_access_key=key[1], region_name="us-east-1"
        )
        calls: list[Callable[[], object]] = [
            client.list_buckets,
            lambda: client.get_object(Bucket="mlflow", Key="secret"),
            lambda: client.put_object(Bucket="mlflow", Key="new", Body=b"a"),
        ]
        for call in calls:
            with pytest.raises(ClientError, match=r"InvalidAccessKeyId|SignatureDoesNotMatch"):
                call()
    team.s3.delete_object(Bucket="mlflow", Key="secret")


@pytest.mark.parametrize(
    ("name", "variable"), [("mlflow", "MLFLOW_AUTH_ADMIN_PASSWORD"), ("postgres", "POSTGRES_PASSWORD")]
)
def test_health_checks_ask_the_server_itself(team: Team, name: str, variable: str) -> None:
    assert team.healthy(name)
    assert not team.healthy(name, **{variable: "wrong"})


@pytest.mark.parametrize("value", ["", "team:wrong"])
def test_a_wrong_log_in_of_prefect_is_one_error(team: Team, value: str) -> None:
    variables = QUIET | team.client | {"PREFECT_API_AUTH_STRING": value}
    ended = subprocess.run(
        [sys.executable, "-m", "flows"],
        cwd=ROOT,
        env=environment(**variables),
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 1
    (line,) = ended.stderr.splitlines()
    assert line.startswith("error: ")
    assert "PREFECT_API_AUTH_STRING" in line
    assert not value or value not in line


def test_the_worker_logs_in(team: Team) -> None:
    team.start("worker")
    try:
        address, (name, password) = team.client["PREFECT_API_URL"], SECRETS["PREFECT_API_AUTH_STRING"].split(":")

        def works() -> bool:
            with suppress(httpx.TransportError):
                pool = httpx.get(f"{address}/work_pools/machines", auth=(name, password), timeout=TIMEOUT).json()
                return (pool.get("type"), pool.get("status")) == ("process", "READY")
            return False

        wait_for(works, f"the worker has no pool:\n{team.log('worker')}", team.processes["worker"])
    finally:
        team.stop("worker")


@pytest.fixture
def logged_in(team: Team, monkeypatch: pytest.MonkeyPatch) -> None:
    """Log this process in."""
    for name, value in team.client.items():
        monkeypatch.setenv(name, value)


@pytest.mark.usefixtures("logged_in")
def test_writers_side_by_side_lose_no_metric(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "300")  # however slow the server is
    client, experiment = connect()
    shared = client.create_run(experiment).info.run_id

    def write(writer: int) -> str:
        """Write into a run of its own, and with all others into one."""
        mine = MlflowClient()
        own: str = mine.create_run(experiment).info.run_id
        for batch in range(BATCHES):
            steps = range(batch * METRICS, (batch + 1) * METRICS)
            mine.log_batch(own, metrics=[Metric("loss", writer + step / 7, 0, step) for step in steps])
            mine.log_batch(shared, metrics=[Metric("loss", writer + step / 7, writer, step) for step in steps])
        return own

    with ThreadPoolExecutor(WRITERS) as pool:
        own = list(pool.map(write, range(WRITERS)))
    expected = [(step, writer + step / 7) for writer in range(WRITERS) for step in range(BATCHES * METRICS)]
    written = [(metric.step, metric.value) for run in own for metric in client.get_metric_history(run, "loss")]
    assert sorted(written) == sorted(expected)
    together = [(metric.step, metric.value) for metric in client.get_metric_history(shared, "loss")]
    assert sorted(together) == sorted(expected)


@pytest.mark.usefixtures("logged_in")
def test_a_pipeline_survives_a_restart_of_postgresql_and_the_moods_of_mlflow(
    team: Team, finished: Project, tmp_path: Path
) -> None:
    place = finished.copy(tmp_path / "project")
    (place.root / "ledger.jsonl").unlink()  # it names a champion that this MLflow lacks
    place.set(train={"seed": 1, "steps": 3000, "report_every": 5, "sample_every": 1500, "checkpoint_every": 1000})
    refused = place.run(sys.executable, "-m", "flows", **QUIET, **team.client | {"MLFLOW_TRACKING_PASSWORD": "wrong"})
    assert refused.returncode == 1
    (error,) = [line for line in refused.stdout.splitlines() if line.startswith("error: ")]
    assert "MLFLOW_TRACKING_PASSWORD" in error
    assert "Traceback" not in refused.stdout
    log, trained = tmp_path / "flow.log", place.root / "reports" / "training" / "history.csv"

    def rows_written() -> int:
        with suppress(FileNotFoundError):  # the training has ended meanwhile
            histories = [*(place.root / ".checkpoints").glob("*/history.csv")]
            return sum(path.read_text().count("\n") for path in histories if not trained.exists())
        return 0

    # a client waits for 10 seconds, so what is late comes after it has given up
    with chaos(team.client["MLFLOW_TRACKING_URI"], seed=0, bad=lambda: rows_written() > 0, late=12.0) as proxy:
        variables = team.client | {"MLFLOW_TRACKING_URI": proxy.address}
        with running(place, log, sys.executable, "-m", "flows", **variables) as flow:
            wait_for(lambda: rows_written() > 100, f"no training: {log}", flow)
            team.stop("postgres")
            assert not trained.exists()  # it still trains
            team.start("postgres")
            assert flow.wait() == 0, log.read_text()[-3000:]
    assert set(proxy.seen) - {"well", "late"}
    registration = json.loads((place.root / "reports/registration.json").read_text())
    client = MlflowClient()
    run = client.get_run(registration["run_id"])
    assert run.info.status == "FINISHED"
    rows = pd.read_csv(trained)
    for column in rows.columns.drop("step"):
        metrics = client.get_metric_history(run.info.run_id, f"training/{column}")
        assert sorted(metric.step for metric in metrics) == list(rows["step"]), column
    assert client.get_model_version_by_alias(registration["model"], "champion").version == registration["version"]
    address, login = team.client["PREFECT_API_URL"], tuple(team.client["PREFECT_API_AUTH_STRING"].split(":"))
    states = httpx.post(f"{address}/flow_runs/filter", json={}, auth=login, timeout=TIMEOUT)  # type: ignore[arg-type]
    assert [run["state_type"] for run in states.json()] == ["COMPLETED"]


@pytest.mark.usefixtures("logged_in")
def test_a_sweep_is_kept_by_postgresql(
    team: Team, finished: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = finished.copy(tmp_path / "project")
    database = {name: value for name, value in team.services["mlflow"]["environment"].items() if name.startswith("PG")}
    storage = "postgresql+psycopg2:///optuna"
    variables = team.client | database | {"OPTUNA_STORAGE": storage, "PREFECT_WORKER_QUERY_SECONDS": "2"}
    prefect = (str(BIN / "prefect"), "--no-prompt")
    worker = ("worker", "start", "--pool", "local", "--type", "process")
    space = {"train.beta1": {"low": 0.0, "high": 0.5}}
    asked = {"name": "team", "space": space, "trials": 2, "at_once": 2, "prune": False}
    for command in (("work-pool", "create", "local", "--type", "process"), ("deploy", "--all")):
        ended = place.run(*prefect, *command, **variables)
        assert ended.returncode == 0, ended.stdout
    with running(place, tmp_path / "worker.log", *prefect, *worker, **variables | {"TMPDIR": str(tmp_path)}):
        options = [f"--param={key}={json.dumps(value)}" for key, value in asked.items()]
        watch = ("--watch", "--watch-timeout", str(FLOW_TIMEOUT))
        ended = place.run(*prefect, "deployment", "run", "gan-sweep/local", *watch, *options, **variables)
    assert ended.returncode == 0, ended.stdout
    for name, value in database.items():
        monkeypatch.setenv(name, value)
    trials = {trial.number: trial.value for trial in optuna.load_study(study_name="team", storage=storage).trials}
    client, experiment = connect()
    (parent,) = client.search_runs([experiment], "tags.`mlflow.runName` = 'team'")
    children = client.search_runs([experiment], f"tags.`mlflow.parentRunId` = '{parent.info.run_id}'")
    metrics = {int(child.data.tags["sweep.trial"]): child.data.metrics.values() for child in children}
    assert metrics.keys() == trials.keys() == {0, 1}
    assert all(trials[number] in values for number, values in metrics.items())
    assert not (place.root / ".prefect" / "sweeps.db").exists()
