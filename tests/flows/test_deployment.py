"""The deployment as a user has it: a Prefect server, `make worker`, `prefect deployment run`."""

import re
import sqlite3
from contextlib import closing
from typing import Any

import pytest

from tests.servers import FLOW_TIMEOUT, Deployment, FlowRun, stage_processes, wait_for

pytestmark = pytest.mark.slow
STAGES = ["code", "fetch", "prepare", "extractor", "train", "replicate", "choose", "diagnose", "evaluate", "register"]


def log(deployed: Deployment, flow_run: FlowRun) -> str:
    """Return the log of a flow run, as its page shows it."""
    mine = {"flow_run_id": {"any_": [flow_run.id]}}
    lines: list[dict[str, Any]] = []
    while page := deployed.ask("logs/filter", logs=mine, limit=200, offset=len(lines)):
        lines += page
    return "\n".join(line["message"] for line in lines)


def from_mlflow(deployed: Deployment, query: str) -> list[str]:
    """Return a column of the tracking store of the project."""
    with closing(sqlite3.connect(deployed.project.root / ".mlflow" / "mlflow.db")) as database:
        return [value for (value,) in database.execute(query)]


def test_a_run_succeeds_with_one_task_run_for_each_stage(deployed: Deployment, flow_run: FlowRun) -> None:
    assert flow_run.returncode == 0
    wait_for(lambda: deployed.tasks(flow_run) == dict.fromkeys(STAGES, "COMPLETED"), "not all stages are recorded")
    assert list(deployed.tasks(flow_run)) == STAGES
    for stage in STAGES:
        assert f"Running stage '{stage}'" in log(deployed, flow_run)


def test_a_run_leaves_scores_samples_and_the_place_in_mlflow(deployed: Deployment, flow_run: FlowRun) -> None:
    mine = {"id": {"any_": [flow_run.id]}}
    artifacts = {item["key"]: item for item in deployed.ask("artifacts/filter", flow_runs=mine)}
    decision, scores = artifacts.pop("gan-decision"), artifacts.pop("gan-scores")
    assert "fid_digits" in str(scores["data"])
    assert all(key.endswith("-progress") for key in artifacts)
    outcome, verdict = re.findall(r"^(\w+): gan-digits version 1; (.+)", decision["description"])[0]
    assert decision["data"].startswith(f"# {outcome}: gan-digits version 1\n\n")
    assert f"**The doctor:** {verdict}" in decision["data"]
    assert decision["data"].count("](data:image/png;base64,") == 2
    assert re.search(r"\| real \|\n\|(---\|){4}\n\| fid_digits \| [\d.]+ \| \[", decision["data"])
    assert "/#/experiments/1/runs/" in decision["data"]


def test_the_mlflow_run_names_the_flow_run(deployed: Deployment, flow_run: FlowRun) -> None:
    query = "select value from tags where key = 'prefect.flow_run_id'"
    assert flow_run.id in from_mlflow(deployed, query)


def test_the_error_of_a_stage_is_in_the_log_and_in_the_state(deployed: Deployment, flow_run: FlowRun) -> None:
    stage = deployed.project.root / "stages" / "evaluate.py"
    text = stage.read_text()
    try:
        stage.write_text(f"{text}\n\nfrom mlops.project import errors\n\nraise errors.UserError('planted')\n")
        failed = deployed.watch()
    finally:
        stage.write_text(text)
    assert failed.returncode == 1
    tasks = dict.fromkeys(STAGES[:8], "COMPLETED") | {"evaluate": "FAILED"}
    wait_for(lambda: deployed.tasks(failed) == tasks, f"the stages are not {tasks}")
    state = deployed.state(failed)
    assert state["type"] == "FAILED"
    assert re.search(r"evaluate .*: planted$", state["message"])
    assert "error: planted" in log(deployed, failed)


def test_a_cancelled_run_leaves_no_trainer_behind(deployed: Deployment, flow_run: FlowRun) -> None:
    root = deployed.project.root
    checkpoints = root / ".checkpoints"

    def trains() -> Any:
        return list(checkpoints.glob("*/state.safetensors"))

    params = (root / "params.yaml").read_text()
    deployed.project.set(train={"steps": 10_000_000})
    try:
        started = deployed.run()
        wait_for(trains, "training does not start", seconds=FLOW_TIMEOUT)
        assert stage_processes(root)
        deployed.prefect("flow-run", "cancel", started.id)
        wait_for(lambda: deployed.state(started)["type"] == "CANCELLED", "the run is not cancelled")
        wait_for(lambda: not stage_processes(root), "a stage lives on")
        assert set(from_mlflow(deployed, "select status from runs")) == {"FINISHED", "KILLED"}
    finally:
        (root / "params.yaml").write_text(params)
