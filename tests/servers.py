"""The servers that users look at, each on a free port; whoever starts one ends it with all that it started."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import psutil  # type: ignore[import-untyped]  # has no stubs among the locked packages

from tests.project import Project, environment

TIMEOUT = 300.0
"""Seconds to wait for what takes some seconds on an idle machine; a busy one may take many times as long."""
FLOW_TIMEOUT = 1800
"""Seconds to wait for a flow run, which takes up to a minute on an idle machine."""
STARTS = 3
"""How often a server is started: another process may take its port before it does."""
BIN = Path(sys.executable).parent
QUIET = {
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # eight processes for judges of language models
}


def end_all(processes: Iterable["subprocess.Popen[str]"]) -> None:
    """Kill processes, wait for them and close what they print to."""
    for process in processes:
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


def wait_for(
    condition: Callable[[], object],
    what: str,
    process: subprocess.Popen[bytes] | None = None,
    seconds: float = TIMEOUT,
) -> None:
    """Wait until a condition holds.

    Args:
        condition: asked again and again.
        what: message of the error.
        process: brings it about; if it has ended before, there is nothing to wait for.
        seconds: to wait.

    Raises:
        TimeoutError: the condition does not hold after so many seconds.
        ChildProcessError: the process has ended and the condition does not hold.
    """
    deadline = time.monotonic() + seconds
    while True:
        ended = process is not None and process.poll() is not None
        if condition():
            return
        if ended:
            raise ChildProcessError(what)
        if time.monotonic() > deadline:
            raise TimeoutError(what)
        time.sleep(0.05)


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


def answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=TIMEOUT).status_code == 200
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
        with suppress(psutil.NoSuchProcess):  # it has just ended
            child.kill()


def stage_processes(root: Path) -> list[int]:
    """Return the ids of the processes that work for a stage in a folder: DVC and the stage itself."""
    pids = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if Path(process.cwd()) == root and {"dvc", "stages"} & set(process.cmdline()):
                pids.append(process.pid)
    return pids


@contextmanager
def serving(project: Project, log: Path, *command: str, health: str, api: str = "") -> Iterator[str]:
    """Run a server in the project while the block lasts; yield its address as soon as it is healthy.

    Args:
        project: in whose folder it runs.
        log: file for its output.
        command: program and arguments; a free port follows.
        health: path that answers with 200 once the server is up.
        api: path of what clients of the server, itself included, find in the variable PREFECT_API_URL.

    Raises:
        TimeoutError: it runs but is not healthy.
        ChildProcessError: it ended, on each of several ports.
    """
    for start in range(1, STARTS + 1):
        port = free_port()
        address = f"http://127.0.0.1:{port}"
        variables = {"PREFECT_API_URL": f"{address}{api}"} if api else {}
        with running(project, log, *command, str(port), **variables) as process:
            try:
                wait_for(partial(answers, f"{address}{health}"), f"{command[0]} is not healthy; see {log}", process)
            except ChildProcessError:
                if start == STARTS:
                    raise
                continue
            yield address
            return


@contextmanager
def mlflow_server(project: Project, log: Path) -> Iterator[str]:
    """Serve the project's own tracking store, as `make ui` does; yield the address."""
    home = project.root / ".mlflow"
    store = ("--backend-store-uri", f"sqlite:///{home}/mlflow.db", "--artifacts-destination", str(home / "artifacts"))
    command = (str(BIN / "mlflow"), "server", "--host", "127.0.0.1", "--workers", "1", *store, "--port")
    with serving(project, log, *command, health="/health") as address:
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

    def run(self, *options: str, flow: str = "gan-training", name: str = "local") -> FlowRun:
        """Run the deployment of a flow; the options say whether to wait for its end."""
        ended = self.prefect("deployment", "run", f"{flow}/{name}", *options)
        run_id = re.search(r"UUID: (\S+)", ended.stdout)
        assert run_id is not None, ended.stdout
        return FlowRun(run_id[1], ended.returncode)

    def watch(self, *options: str, flow: str = "gan-training", name: str = "local") -> FlowRun:
        """Run the deployment of a flow to its end."""
        return self.run("--watch", "--watch-timeout", str(FLOW_TIMEOUT), *options, flow=flow, name=name)

    def ask(self, path: str, **body: Any) -> Any:
        """Return what the server's API answers to a POST."""
        return self._answer("POST", path, json=body).json()

    def _answer(self, method: str, path: str, **options: Any) -> httpx.Response:
        """Ask the server, again if its database is busy, as its own clients do."""
        end = time.monotonic() + TIMEOUT
        while True:
            answer = httpx.request(method, f"{self.address}/api/{path}", timeout=TIMEOUT, **options)
            if answer.status_code != 503 or time.monotonic() > end:
                return answer.raise_for_status()
            time.sleep(0.2)

    def read(self, flow_run: FlowRun) -> dict[str, Any]:
        """Return all that the server knows of a flow run."""
        run: dict[str, Any] = self._answer("GET", f"flow_runs/{flow_run.id}").json()
        return run

    def state(self, flow_run: FlowRun) -> dict[str, Any]:
        """Return the state of a flow run."""
        state: dict[str, Any] = self.read(flow_run)["state"]
        return state

    def tasks(self, flow_run: FlowRun) -> dict[str, str]:
        """Return the task runs of a flow run in the order of their start: name and type of state.

        Prefect records them a moment after the state of the flow run.
        """
        mine = {"id": {"any_": [flow_run.id]}}
        tasks = self.ask("task_runs/filter", flow_runs=mine, sort="EXPECTED_START_TIME_ASC")
        return {task["name"]: task["state_type"] for task in tasks}


@contextmanager
def deployment(project: Project, logs: Path) -> Iterator[Deployment]:
    """Start Prefect's server, then `make worker`, which applies prefect.yaml and works for it."""
    server = (str(BIN / "prefect"), "server", "start", "--host", "127.0.0.1", "--port")
    worker = ("make", "worker", f"BIN={BIN}", "READY=")
    with serving(project, logs / "server.log", *server, health="/api/health", api="/api") as address:
        variables = {"PREFECT_API_URL": f"{address}/api", "PREFECT_WORKER_QUERY_SECONDS": "2"}  # instead of 10
        with running(project, logs / "worker.log", *worker, **variables) as process:
            name = f"{address}/api/deployments/name/gan-training/local"
            wait_for(lambda: answers(name), f"nothing was deployed; see {logs}", process)
            yield Deployment(project, address)
