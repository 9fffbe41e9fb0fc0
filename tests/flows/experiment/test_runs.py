"""Runs with parameters as a user has them: typed for a server, computed by its worker, taken over by DVC."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.flows.test_deployment import STAGES
from tests.project import Project
from tests.servers import FLOW_TIMEOUT, Deployment, FlowRun, wait_for

pytestmark = pytest.mark.slow
GENERATOR = "models/generator.safetensors"
SEEDS = (5, 6)
ENDED = ("COMPLETED", "FAILED", "CRASHED", "CANCELLED")


def state_of_files(project: Project) -> dict[str, Any]:
    """Return what git has to tell about the project, and its results."""
    listed = project.run("git", "status", "--porcelain").stdout
    return {"git status": listed, "lock": (project.root / "dvc.lock").read_bytes(), **project.results()}


@pytest.fixture(scope="module")
def two(deployed: Deployment, flow_run: FlowRun) -> dict[int, str]:
    """Return the names of two runs that were started at the same moment, by their seed; the project is as before."""
    before = state_of_files(deployed.project)
    overrides = [json.dumps({"train": {"seed": seed}, "evaluate": None}) for seed in SEEDS]
    runs = [deployed.run("-p", f"overrides={value}") for value in overrides]
    wait_for(
        lambda: all(deployed.state(run)["type"] in ENDED for run in runs), "a run does not end", seconds=FLOW_TIMEOUT
    )
    states = [deployed.state(run) for run in runs]
    assert [state["type"] for state in states] == ["COMPLETED", "COMPLETED"], [state["message"] for state in states]
    assert state_of_files(deployed.project) == before
    named = {run.id: run for run in runs}
    listed = deployed.ask("flow_runs/filter", flow_runs={"id": {"any_": [*named]}})
    names = {run["id"]: run["name"] for run in listed}
    return {seed: names[run.id] for seed, run in zip(SEEDS, runs, strict=True)}


def test_both_leave_an_experiment_and_no_workspace(deployed: Deployment, two: dict[int, str]) -> None:
    listed = deployed.project.dvc("exp", "list", "--name-only").split()
    assert set(two.values()) <= set(listed)
    assert [path for path in (deployed.project.root / ".workspaces").glob("*") if path.is_dir()] == []


def test_mlflow_and_the_ledger_have_both(deployed: Deployment, two: dict[int, str]) -> None:
    code = (
        "from mlops.tracking.runs import connect; from mlops.promotion.ledger import locked_ledger\n"
        "client, experiment = connect()\n"
        "for run in client.search_runs([experiment]): print(run.data.params['train.seed'], "
        "run.data.tags.get('dvc.experiment'), run.info.status)\n"
        "with locked_ledger() as ledger: print('decided', len(ledger.entries))\n"
    )
    printed = deployed.project.run(sys.executable, "-c", code).stdout
    for seed, name in two.items():
        assert f"{seed} {name} FINISHED" in printed
    assert int(printed.split("decided ")[1].split()[0]) >= 3


def test_each_has_the_bytes_of_a_run_alone_and_dvc_applies_and_removes_it(
    deployed: Deployment, two: dict[int, str], tmp_path: Path
) -> None:
    copy = deployed.project.copy(tmp_path / "copy")
    copy.commit()
    made = {}
    for name in two.values():
        copy.dvc("exp", "apply", name)
        made[name] = (copy.root / GENERATOR).read_bytes()
        copy.run("git", "checkout", "-q", ".")
    assert len({*made.values()}) == 2
    copy.set(train={"seed": SEEDS[0]})
    copy.dvc("repro", "--force", "--single-item", "train", "choose")
    assert (copy.root / GENERATOR).read_bytes() == made[two[SEEDS[0]]]
    copy.dvc("exp", "remove", *two.values())
    assert not set(two.values()) & set(copy.dvc("exp", "list", "--name-only").split())


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        ({"train.steps": 0}, ["train.steps", "minimum of 1"]),
        ({"compute": {"threads": 257}}, ["compute.threads", "maximum of 256"]),
        ({"train.stepz": 5}, ["train.stepz", "a key of params.yaml"]),
        ({"train": {"loss": "hing"}}, ["train.loss", "hinge"]),
    ],
)
def test_a_value_out_of_range_makes_no_run(
    overrides: dict[str, Any], words: list[str], deployed: Deployment, flow_run: FlowRun
) -> None:
    ended = deployed.prefect("deployment", "run", "gan-training/local", "-p", f"overrides={json.dumps(overrides)}")
    assert ended.returncode == 1
    text = " ".join(ended.stdout.split())
    assert [word for word in words if word not in text] == []


def test_a_run_that_fails_keeps_its_workspace_and_one_that_is_refused_has_none(
    deployed: Deployment, flow_run: FlowRun
) -> None:
    root = deployed.project.root
    refused = deployed.watch("-p", 'overrides={"train.batch_size": 3, "execution.micro_batches": 2}')
    assert refused.returncode == 1
    assert "train.batch_size" in deployed.state(refused)["message"]
    failed = deployed.watch(
        "-p", 'overrides={"prepare.image_size": 9, "train.steps": 2, "extractor.weights": "nowhere"}'
    )
    assert failed.returncode == 1
    message = deployed.state(failed)["message"]
    (kept,) = [path for path in (root / ".workspaces").glob("*") if path.is_dir()]
    assert str(kept) in message
    assert f"rm -r {kept}" in message
    assert deployed.project.run(sys.executable, "-m", "commands.free").returncode == 0
    assert not kept.exists()


def test_a_second_run_of_the_project_finds_everything_cached(deployed: Deployment, flow_run: FlowRun) -> None:
    assert deployed.watch().returncode == 0  # another test may have trained since
    again = deployed.watch()
    assert again.returncode == 0

    def states() -> dict[str, str]:
        tasks = deployed.ask("task_runs/filter", flow_runs={"id": {"any_": [again.id]}})
        return {task["name"]: task["state_name"] for task in tasks if task["name"] != "code"}

    # Prefect records them a moment after the end of the run
    wait_for(lambda: states() == dict.fromkeys(STAGES[1:], "Cached"), "not all stages are cached, or not all recorded")
