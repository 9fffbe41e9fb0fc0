"""The servers that customers look at, each on a free port; whoever starts one ends it with all that it started."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil  # type: ignore[import-untyped]  # has no stubs among the locked packages

from tests.project import Project, environment

TIMEOUT = 120.0
"""Seconds to wait for what takes some seconds on an idle machine."""
BIN = Path(sys.executable).parent
QUIET = {"PREFECT_SERVER_ANALYTICS_ENABLED": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}


def wait_for(found: Callable[[], object], what: str) -> None:
    """Wait until a function finds something."""
    end = time.monotonic() + TIMEOUT
    while time.monotonic() < end:
        if found():
            return
        time.sleep(0.2)
    raise TimeoutError(what)


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


def answers(url: str) -> bool:
    try:
        return httpx.get(url).status_code == 200
    except httpx.TransportError:
        return False


@contextmanager
def running(project: Project, log: Path, *command: str, **variables: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run a command in the project while the block lasts."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            cwd=project.root,
            env=environment(**QUIET, **project.variables | variables),
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        end(process)


def end(process: subprocess.Popen[bytes]) -> None:
    """End a process, its group, and what it started in other groups."""
    family = psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []
    with suppress(ProcessLookupError, subprocess.TimeoutExpired):
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(5)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    _, alive = psutil.wait_procs(family, timeout=5)
    for child in alive:
        child.kill()


def stage_processes(root: Path) -> list[int]:
    """Return the ids of the processes that work for a stage in a folder: DVC and the stage itself."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if Path(process.cwd()) == root and {"dvc", "stages"} & set(process.cmdline()):
                found.append(process.pid)
    return found


@contextmanager
def mlflow_server(project: Project, log: Path) -> Iterator[str]:
    """Serve the project's own tracking store, as `make ui` does; yield the address."""
    port, home = str(free_port()), project.root / ".mlflow"
    store = ("--backend-store-uri", f"sqlite:///{home}/mlflow.db", "--artifacts-destination", str(home / "artifacts"))
    command = (str(BIN / "mlflow"), "server", "--host", "127.0.0.1", "--port", port, "--workers", "1", *store)
    address = f"http://127.0.0.1:{port}"
    with running(project, log, *command):
        wait_for(lambda: answers(f"{address}/health"), f"MLflow does not answer; see {log}")
        yield address


@dataclass(frozen=True)
class FlowRun:
    """A run of a deployment that somebody typed and watched to its end."""

    id: str
    returncode: int


@dataclass(frozen=True)
class Deployment:
    """The deployments of a project, with a server and a worker of their own."""

    project: Project
    address: str

    def prefect(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run prefect in the project, as a user of this server would."""
        return subprocess.run(
            [str(BIN / "prefect"), "--no-prompt", *arguments],
            cwd=self.project.root,
            env=environment(**QUIET, PREFECT_API_URL=f"{self.address}/api"),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )

    def run(self, *options: str, flow: str = "gan-training") -> FlowRun:
        """Run the deployment of a flow; the options say whether to wait for its end."""
        ended = self.prefect("deployment", "run", f"{flow}/local", *options)
        found = re.search(r"UUID: (\S+)", ended.stdout)
        assert found is not None, ended.stdout
        return FlowRun(found[1], ended.returncode)

    def watch(self, *options: str, flow: str = "gan-training") -> FlowRun:
        """Run the deployment of a flow to its end."""
        return self.run("--watch", "--watch-timeout", "300", *options, flow=flow)

    def ask(self, path: str, **body: Any) -> Any:
        """Return what the server's API answers to a POST."""
        return httpx.post(f"{self.address}/api/{path}", json=body).raise_for_status().json()

    def state(self, flow_run: FlowRun) -> dict[str, Any]:
        """Return the state of a flow run."""
        found = httpx.get(f"{self.address}/api/flow_runs/{flow_run.id}").raise_for_status().json()
        state: dict[str, Any] = found["state"]
        return state

    def tasks(self, flow_run: FlowRun) -> dict[str, str]:
        """Return the task runs of a flow run in the order of their start: name and type of state."""
        mine = {"id": {"any_": [flow_run.id]}}
        found = self.ask("task_runs/filter", flow_runs=mine, sort="EXPECTED_START_TIME_ASC")
        return {task["name"]: task["state_type"] for task in found}


@contextmanager
def deployment(project: Project, logs: Path) -> Iterator[Deployment]:
    """Start Prefect's server, then `make worker`, which applies prefect.yaml and works for it."""
    port = str(free_port())
    address = f"http://127.0.0.1:{port}"
    server = (str(BIN / "prefect"), "server", "start", "--host", "127.0.0.1", "--port", port)
    worker = ("make", "worker", f"BIN={BIN}", "READY=")
    api = {"PREFECT_API_URL": f"{address}/api"}
    with running(project, logs / "server.log", *server, **api):
        wait_for(lambda: answers(f"{address}/api/health"), f"Prefect does not answer; see {logs}")
        with running(project, logs / "worker.log", *worker, **api):
            name = f"{address}/api/deployments/name/gan-training/local"
            wait_for(lambda: answers(name), f"nothing was deployed; see {logs}")
            yield Deployment(project, address)
