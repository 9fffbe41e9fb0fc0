"""`python -m commands.ui`: MLflow on the project's store and a Prefect server, until Ctrl-C; both or none."""

import os
import signal
import socket
import time
from contextlib import suppress
from pathlib import Path

import click
import psutil  # type: ignore[import-untyped]  # has no stubs among the locked packages

from commands.local_servers import HOST, Server, check, mlflow_server, prefect_server, running, wait_for
from mlops.project.errors import UserError, command_line
from mlops.safety.locks import locked
from mlops.tracking.store import REGISTRY, TRACKING, check_store

PREFECT_PORT = 4200


def check_ports(*servers: Server) -> None:
    """Raise a UserError if a port cannot be taken; it names what has it, and ports that are free."""
    taken = [server for server in servers if not _is_free(server.port)]
    if servers[0].port == servers[1].port:
        taken = [servers[1]]
    if not taken:
        return
    free = {server.variable: server.port for server in servers}
    for server in taken:
        others = {port for variable, port in free.items() if variable != server.variable}
        free[server.variable] = next(p for p in range(server.port + 1, 65536) if p not in others and _is_free(p))
    reasons = [f"{server.name}'s port {server.port} is taken by {_owner(server.port)}" for server in taken]
    ports = " ".join(f"{server.variable}={free[server.variable]}" for server in taken)
    raise UserError(f"{', and '.join(reasons)}; take another, `make ui {ports}`, or stop that")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # what only waits for late packets is no owner
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


def _owner(port: int) -> str:
    """Return the process that listens at a port, as far as this user may know."""
    with suppress(psutil.Error):
        for connection in psutil.net_connections("tcp"):
            if connection.status == psutil.CONN_LISTEN and connection.laddr.port == port and connection.pid:
                command = " ".join(psutil.Process(connection.pid).cmdline())
                return f"process {connection.pid} ({command[:100]})"
    return "another process"


def serve(mlflow_port: int, prefect_port: int) -> None:
    """Start both servers, print their addresses once both answer, and wait; if one ends, that is a UserError."""
    servers = (mlflow_server(mlflow_port), prefect_server(prefect_port))
    pages = "\n".join(f"{server.name:7}  {server.address}{server.page}" for server in servers)
    for variable in (TRACKING, REGISTRY):
        os.environ.pop(variable, None)  # the project's own store is served, whatever else is used
    check_store()
    if not Path(".mlflow", "mlflow.db").exists():
        from mlops.tracking.runs import connect  # MLflow takes seconds to import

        connect()  # the page that is shown is its experiment's
    folder = Path(".mlflow", "ui")
    shown = folder / "pages"
    before = shown.read_text(encoding="utf-8") if shown.exists() else ""
    with locked(folder, "serves the project", f"its pages are\n{before}"):
        check_ports(*servers)
        shown.write_text(pages, encoding="utf-8")
        with running(servers) as processes:
            print("MLflow and Prefect are starting, which takes about 10 seconds ...", flush=True)
            wait_for(servers, processes)
            print(pages)
            if prefect_port != PREFECT_PORT:
                print(f"for make worker and prefect:  export PREFECT_API_URL={servers[1].address}/api")
            print(f"Ctrl-C stops both. Their logs are {servers[0].log} and {servers[1].log}.", flush=True)
            while True:
                time.sleep(0.5)
                check(servers, processes)


@click.command()
@click.option("--mlflow-port", envvar="MLFLOW_PORT", type=click.IntRange(1, 65535), default=5000, show_default=True)
@click.option(
    "--prefect-port", envvar="PREFECT_PORT", type=click.IntRange(1, 65535), default=PREFECT_PORT, show_default=True
)
@command_line()
def main(mlflow_port: int, prefect_port: int) -> None:
    """Serve MLflow and Prefect on this machine until Ctrl-C."""
    signal.signal(signal.SIGHUP, signal.getsignal(signal.SIGTERM))  # a terminal that is closed
    with suppress(KeyboardInterrupt):
        serve(mlflow_port, prefect_port)


if __name__ == "__main__":
    main()
