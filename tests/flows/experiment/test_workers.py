"""What deploy/workers.md says, done in empty folders that share no file with the project."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from mlops.project.identity import file_digest
from tests.project import Project
from tests.servers import BIN, Deployment, FlowRun, mlflow_server, running, serving

pytestmark = pytest.mark.slow
GENERATOR = "models/generator.safetensors"
PREFECT = str(BIN / "prefect")


@dataclass(frozen=True)
class Far:
    """A project, what it was pushed to, and a machine that has nothing of it but a worker."""

    deployed: Deployment
    repository: Path
    remote: Path
    machine: Path

    def run(self, *options: str) -> tuple[FlowRun, dict[str, str]]:
        """Run it to its end; return the run, and name and message of its state."""
        run = self.deployed.watch(*options, name="process")
        return run, {key: self.deployed.state(run)[key] for key in ("type", "message")}


@pytest.fixture(scope="module")
def far(finished: Project, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Far]:
    """Yield a finished project that was pushed and deployed, and a worker in an empty folder."""
    folder = tmp_path_factory.mktemp("far")
    project, repository, remote = finished.copy(folder / "project"), folder / "equilibrium.git", folder / "remote"
    servers, machine = (  # neither uses the database of whoever runs the tests
        Project(folder / name, {"PREFECT_HOME": str(folder / f"{name}-home")}) for name in ("servers", "machine")
    )
    for place in (remote, servers.root / ".mlflow", machine.root):
        place.mkdir(parents=True)
    project.dvc("remote", "add", "--default", "store", str(remote))
    project.commit()
    project.dvc("push")
    for command in (("init", "-q", "--bare", str(repository)), ("remote", "add", "origin", str(repository))):
        assert project.run("git", *command).returncode == 0
    assert project.run("git", "push", "-q", "origin", "HEAD").returncode == 0
    server = (PREFECT, "server", "start", "--host", "127.0.0.1", "--port")
    with (
        mlflow_server(servers, folder / "mlflow.log") as mlflow,
        serving(servers, folder / "server.log", *server, health="/api/health", api="/api") as address,
    ):
        api = {"PREFECT_API_URL": f"{address}/api"}
        given = {"EQUILIBRIUM_REPOSITORY": repository.as_uri(), "EQUILIBRIUM_DVC_REMOTE": str(remote)}
        pool = ("work-pool", "create", "machines", "--type", "process")
        deploy = ("deploy", "--prefect-file", "deploy/prefect.yaml", "--name", "process")
        for arguments in (pool, deploy):
            ended = project.run(PREFECT, "--no-prompt", *arguments, **api, **given, MLFLOW_TRACKING_URI=mlflow)
            assert ended.returncode == 0, ended.stdout
        worker = (PREFECT, "worker", "start", "--pool", "machines", "--type", "process", "--limit", "1")
        quick = {"PREFECT_WORKER_QUERY_SECONDS": "2"}  # instead of 10
        with running(machine, folder / "worker.log", *worker, **api | quick):
            yield Far(Deployment(project, address), repository, remote, machine.root)


def test_a_worker_in_an_empty_folder_completes_a_run_whose_hashes_agree_elsewhere(far: Far, tmp_path: Path) -> None:
    run, state = far.run("-p", f"overrides={json.dumps({'evaluate.banks': 5})}")
    assert state["type"] == "COMPLETED", state["message"]
    name = far.deployed.ask("flow_runs/filter", flow_runs={"id": {"any_": [run.id]}})[0]["name"]
    assert list(far.machine.rglob("clone")) == []  # what was made is where the addresses lead
    elsewhere = Project(tmp_path / "elsewhere")
    cloned = far.deployed.project.run("git", "clone", "-q", str(far.repository), str(elsewhere.root))
    assert cloned.returncode == 0, cloned.stdout
    elsewhere.dvc("exp", "pull", "origin", name)
    elsewhere.dvc("exp", "apply", name)
    elsewhere.dvc("pull")
    lock = yaml.safe_load((elsewhere.root / "dvc.lock").read_text())["stages"]
    md5s = {out["path"]: out["md5"] for stage in lock.values() for out in stage["outs"]}
    assert file_digest(elsewhere.root / GENERATOR, "md5") == md5s[GENERATOR]
    elsewhere.dvc("repro", "code")  # whose output is in no remote
    changed = json.loads(elsewhere.dvc("status", "--json", "dvc.yaml").splitlines()[-1])
    assert {*changed} <= {"code", "register"}, changed  # the one is always listed, the other's place is in one MLflow
    assert yaml.safe_load((elsewhere.root / "params.yaml").read_text())["evaluate"]["banks"] == 5
    decisions = (elsewhere.root / "ledger.jsonl").read_text().splitlines()
    assert [json.loads(line)["action"] for line in decisions] == ["promoted", "scored again"]


def test_a_commit_that_was_never_pushed_is_one_clear_error(far: Far) -> None:
    (far.deployed.project.root / "not-pushed.txt").write_text("here alone")
    far.deployed.project.commit()
    commit = far.deployed.project.run("git", "rev-parse", "HEAD").stdout.strip()
    run, state = far.run("-p", f"commit={commit}")
    assert state["type"] == "FAILED"
    assert commit in state["message"]
    assert "; push it from where it was made" in state["message"]
    assert far.deployed.tasks(run) == {}
