"""The servers of `deploy/compose.yaml` as processes: commands, variables and health checks are those of the file."""

import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import boto3
import pytest

from tests.project import ROOT, environment
from tests.servers import BIN, TIMEOUT, end, free_port, wait_for

COMPOSE = ROOT / "deploy" / "compose.yaml"
SECRETS = {
    "POSTGRES_PASSWORD": "postgres-of-a-test",
    "STORE_ACCESS_KEY": "store-of-a-test",
    "STORE_SECRET_KEY": "key-of-a-test",
    "MLFLOW_TRACKING_USERNAME": "lead",
    "MLFLOW_TRACKING_PASSWORD": "mlflow-of-a-test",
    "MLFLOW_FLASK_SERVER_SECRET_KEY": "forms-of-a-test",
    "PREFECT_API_AUTH_STRING": "team:prefect-of-a-test",
}
NOBODY = 65534
"""PostgreSQL starts for users without rights alone."""
PROGRAMS = {
    "postgres": "postgresql",
    "curl": "curl",
    "weed": "-r requirements.lock",
    "docker-compose": "-r requirements.lock",
}


def path_of_programs() -> str:
    """Return PATH with PostgreSQL's programs, which Debian keeps elsewhere."""
    places = [BIN, *sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)]
    return ":".join([*map(str, places), os.environ["PATH"]])


def missing_programs() -> str:
    """Return what to install for the tests of this folder, if anything is missing."""
    path = path_of_programs()
    return " ".join(f"{name} ({source})" for name, source in PROGRAMS.items() if not shutil.which(name, path=path))


def compose(variables: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Return what `docker compose config` makes of the file."""
    return subprocess.run(
        ["docker-compose", "--env-file", "/dev/null", "--file", str(COMPOSE), "config", "--format", "json"],
        env={"PATH": path_of_programs(), "HOME": str(Path.home())} | variables,
        capture_output=True,
        text=True,
        check=False,
    )


def store_port() -> int:
    """Return a free port beside which, 10,000 above, SeaweedFS has another free one."""
    while True:
        port = free_port()
        with socket.socket() as second:
            if port < 55_000 and second.connect_ex(("127.0.0.1", port + 10_000)):
                return port


class Team:
    """The servers, their secrets, and the processes of those that run."""

    def __init__(self, folder: Path) -> None:
        ports = {f"{name}_PORT": str(free_port()) for name in ("POSTGRES", "MLFLOW", "PREFECT", "WORKER")}
        ports |= {f"STORE_{name}PORT": str(store_port()) for name in ("", "MASTER_", "VOLUME_", "FILER_")}
        places = {f"{name}_DATA": str(folder / name.lower()) for name in ("STORE", "PREFECT", "WORKER")}
        hosts = {f"{name}_HOST": "127.0.0.1" for name in ("POSTGRES", "STORE", "MLFLOW", "PREFECT")}
        self.folder = folder
        self.variables = SECRETS | ports | places | hosts | {"LISTEN": "127.0.0.1", "MLFLOW_WORKERS": "1"}
        self.services: dict[str, Any] = json.loads(compose(self.variables).stdout)["services"]
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        for place in places.values():
            Path(place).mkdir()

    def environment(self, name: str, **more: str) -> dict[str, str]:
        """Return the variables of a service, and no others of the project's."""
        return environment(**self.services[name]["environment"] | {"PATH": path_of_programs()} | more)

    @property
    def client(self) -> dict[str, str]:
        """Return the variables of a person's shell."""
        names = ("MLFLOW_TRACKING_URI", "MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD", "PREFECT_API_URL")
        worker = self.services["worker"]["environment"]
        return {name: worker[name] for name in (*names, "PREFECT_API_AUTH_STRING")}

    def make_database(self) -> None:
        """Make PostgreSQL's files as servers.md has it, for a user without rights."""
        data = self.folder / "postgres"
        password = self.folder / "password"
        password.write_text(SECRETS["POSTGRES_PASSWORD"])
        data.mkdir()
        if os.getuid() == 0:
            for path in (data, password):
                shutil.chown(path, NOBODY, NOBODY)
        words = [
            "initdb",
            "--encoding=UTF8",
            "--auth=scram-sha-256",
            "--username=equilibrium",
            f"--pwfile={password}",
            f"--pgdata={data}",
        ]
        self._run_unprivileged(*words)
        with (data / "postgresql.conf").open("a") as settings:
            settings.write("unix_socket_directories = ''\n")

    def _run_unprivileged(self, *command: str) -> None:
        subprocess.run(
            [*unprivileged(), *command], env={"PATH": path_of_programs()}, cwd="/", check=True, capture_output=True
        )

    def psql(self, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run psql as a user of this server would."""
        return subprocess.run(
            ["psql", "-v", "ON_ERROR_STOP=1", "-At", *arguments],
            env=self.environment("mlflow", **variables),
            capture_output=True,
            text=True,
            check=False,
        )

    def start(self, *names: str) -> None:
        """Start services, and wait until each is healthy."""
        for name in names:
            with (self.folder / f"{name}.log").open("ab") as log:
                user = unprivileged() if name == "postgres" else []
                self.processes[name] = subprocess.Popen(
                    [*user, *self.services[name]["command"]],
                    env=self.environment(name, PGDATA=str(self.folder / "postgres")),
                    cwd=self.folder / "worker" if name == "worker" else ROOT,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
        for name in names:
            wait_for(partial(self.healthy, name), f"{name} is not healthy:\n{self.log(name)}", self.processes[name])

    def log(self, name: str) -> str:
        """Return the end of what a service prints."""
        return (self.folder / f"{name}.log").read_text(errors="replace")[-3000:]

    def healthy(self, name: str, **more: str) -> bool:
        """Return whether the health check of a service passes, with more variables."""
        time.sleep(0.2)  # each check is a process
        kind, check = self.services[name]["healthcheck"]["test"]
        assert kind == "CMD-SHELL"
        ended = subprocess.run(
            check.replace("$$", "$"), shell=True, env=self.environment(name, **more), capture_output=True, check=False
        )
        return ended.returncode == 0

    def stop(self, *names: str) -> None:
        """Stop services; PostgreSQL does not wait for its clients, as in a container."""
        for name in names:
            process = self.processes.pop(name)
            if name == "postgres":
                process.send_signal(signal.SIGINT)
                process.wait(TIMEOUT)
            end(process)

    @property
    def s3(self) -> Any:
        """Return a client of the store, with its key."""
        of = self.services["mlflow"]["environment"]
        return boto3.client(
            "s3",
            endpoint_url=of["MLFLOW_S3_ENDPOINT_URL"],
            aws_access_key_id=of["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=of["AWS_SECRET_ACCESS_KEY"],
            region_name=of["AWS_DEFAULT_REGION"],
        )


def unprivileged() -> list[str]:
    """Return how a command runs as a user without rights; PostgreSQL refuses to run as root."""
    return ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"] if os.getuid() == 0 else []


@contextmanager
def running_team() -> Iterator[Team]:
    """Run all servers while the block lasts."""
    if missing := missing_programs():
        message = f"missing: {missing}"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o755)  # for the user without rights
        team = Team(Path(folder))
        try:
            team.make_database()
            team.start("postgres", "store")
            created = team.psql("-d", "postgres", "-f", str(ROOT / "deploy/databases.sql"))
            assert created.returncode == 0, created.stderr
            team.start("mlflow", "prefect")
            yield team
        finally:
            team.stop(*reversed(team.processes))
