"""The servers of `make ui` as processes: MLflow on the project's store, and Prefect's."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.error import URLError
from urllib.request import ProxyHandler, build_opener

from mlops.project.errors import UserError
from mlops.tracking.own_store import own_uri

HOST = "127.0.0.1"
START_WITHIN = 180.0
"""Seconds in which a server answers, many times what it takes on an idle machine."""
END_WITHIN = 5.0
LAST_LINES = 15
Processes = Sequence["subprocess.Popen[bytes]"]


@dataclass(frozen=True)
class Server:
    """One of the two servers."""

    name: str
    port: int
    variable: str
    """Of `make ui`, which gives the port."""
    command: tuple[str, ...]
    health: str
    page: str
    log: Path
    variables: dict[str, str]

    @property
    def address(self) -> str:
        """The server's, without a path."""
        return f"http://{HOST}:{self.port}"

    def answers(self) -> bool:
        """Return whether the server is up."""
        try:  # whatever proxy is set, it is not asked for this machine
            with build_opener(ProxyHandler({})).open(self.address + self.health, timeout=5) as answer:
                return bool(answer.status == 200)
        except (URLError, OSError):
            return False

    def ended(self, reason: str) -> UserError:
        """Return the error of a server that does not serve, with the end of its log."""
        log = self.log.read_text(encoding="utf-8", errors="replace").splitlines()
        lines = [f"  {line}" for line in log if line.strip()][-LAST_LINES:]
        return UserError(
            "\n".join([f"{self.name} {reason}; correct what its log names, {self.log}, and start again:", *lines])
        )


def mlflow_server(port: int) -> Server:
    """Return the server of the project's own tracking store.

    Artifacts are named relative to the working directory: in an address `?`, `#` and `%` would mean something.
    """
    store = ("--backend-store-uri", own_uri(), "--artifacts-destination", ".mlflow/artifacts")
    return Server(
        name="MLflow",
        port=port,
        variable="MLFLOW_PORT",
        command=("mlflow", "server", "--host", HOST, "--port", str(port), "--workers", "1", *store),
        health="/health",
        page="/#/experiments/1/runs?viewStateShareKey=deciding&workflowType=machine_learning",
        log=Path(".mlflow", "server.log"),
        # Without the second, eight more processes wait for judges of language models.
        variables={"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
    )


def prefect_server(port: int) -> Server:
    """Return Prefect's server, with the project's own database."""
    return Server(
        name="Prefect",
        port=port,
        variable="PREFECT_PORT",
        command=("prefect", "server", "start", "--host", HOST, "--port", str(port)),
        health="/api/health",
        page="/runs",
        log=Path(".prefect", "server.log"),
        variables={"PREFECT_API_URL": f"http://{HOST}:{port}/api", "PREFECT_SERVER_ANALYTICS_ENABLED": "false"},
    )


@contextmanager
def running(servers: Sequence[Server]) -> Iterator[Processes]:
    """Run servers, each in a process group of its own, while the block lasts."""
    processes: list[subprocess.Popen[bytes]] = []
    try:
        processes.extend(map(_start, servers))
        yield processes
    finally:
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # a second Ctrl-C must not leave one running
        deadline = time.monotonic() + END_WITHIN
        for process in processes:
            _signal(process, signal.SIGTERM)
        for process in processes:
            with suppress(subprocess.TimeoutExpired):
                process.wait(max(0.0, deadline - time.monotonic()))
            _signal(process, signal.SIGKILL)
            process.wait()
        signal.signal(signal.SIGINT, before)


def _start(server: Server) -> "subprocess.Popen[bytes]":
    server.log.parent.mkdir(exist_ok=True)
    # Prefect does not start with the SOCKS proxies that its HTTP client does not support, and needs none.
    variables = {name: value for name, value in os.environ.items() if not value.startswith("socks")}
    with server.log.open("wb") as log:
        return subprocess.Popen(
            [sys.executable, "-m", *server.command],
            env=variables | server.variables,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def _signal(process: "subprocess.Popen[bytes]", number: int) -> None:
    with suppress(ProcessLookupError):  # its group is empty
        os.killpg(process.pid, number)


def wait_for(servers: Sequence[Server], processes: Processes) -> None:
    """Wait until all servers answer; if one ends, or does not answer in time, that is a UserError."""
    deadline = time.monotonic() + START_WITHIN
    silent = list(servers)
    while silent:
        check(servers, processes)
        silent = [server for server in silent if not server.answers()]
        if silent and time.monotonic() > deadline:
            raise silent[0].ended(f"has not answered within {START_WITHIN:.0f} seconds")
        time.sleep(0.2)


def check(servers: Sequence[Server], processes: Processes) -> None:
    """Raise a UserError if a server has ended."""
    for server, process in zip(servers, processes, strict=True):
        if process.poll() is not None:
            raise server.ended(f"has ended (exit {process.returncode})")
