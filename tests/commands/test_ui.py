import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil  # type: ignore[import-untyped]  # has no stubs among the locked packages
import pytest

from commands.local_servers import mlflow_server, prefect_server
from commands.ui import check_ports
from mlops.project.errors import UserError
from tests.project import ROOT, environment
from tests.servers import answers, end, free_port, wait_for

DEAD = "http://127.0.0.1:9"


@contextmanager
def listener() -> Iterator[int]:
    """Listen at a port while the block lasts."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        yield int(taken.getsockname()[1])


def start(folder: Path, log: Path, *ports: int) -> "subprocess.Popen[bytes]":
    """Start `make ui` in a folder, behind proxies that do not answer, and under somebody else's addresses."""
    variables = dict.fromkeys(("http_proxy", "HTTP_PROXY", "https_proxy"), DEAD)
    variables |= {"ALL_PROXY": "socks://127.0.0.1:9", "PREFECT_API_URL": f"{DEAD}/api", "MLFLOW_TRACKING_URI": DEAD}
    variables |= dict(zip(("MLFLOW_PORT", "PREFECT_PORT"), map(str, ports), strict=True))
    variables |= {"PYTHONPATH": str(ROOT)}
    shutil.copy(ROOT / "prefect.toml", folder)
    with log.open("wb") as output:
        return subprocess.Popen(
            [sys.executable, "-m", "commands.ui"],
            cwd=folder,
            env=environment(**variables),
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def test_a_taken_port_is_named_with_what_takes_it_and_another_is_offered() -> None:
    free = free_port()
    with listener() as port:
        with pytest.raises(UserError, match=f"{port} .*process {os.getpid()} .*PREFECT_PORT=") as caught:
            check_ports(mlflow_server(free), prefect_server(port))
        offered = int(str(caught.value).partition("PREFECT_PORT=")[2].split("`")[0])
        assert port < offered != free
        with listener() as other, pytest.raises(UserError, match=r"MLFLOW_PORT=.* PREFECT_PORT="):
            check_ports(mlflow_server(port), prefect_server(other))
    check_ports(mlflow_server(free), prefect_server(offered))


def test_one_port_is_not_for_both() -> None:
    port = free_port()
    with pytest.raises(UserError, match="PREFECT_PORT="):
        check_ports(mlflow_server(port), prefect_server(port))


@pytest.mark.slow
def test_a_server_that_ends_ends_the_other_and_its_log_is_shown(tmp_path: Path) -> None:
    (tmp_path / ".mlflow").mkdir()
    (tmp_path / ".mlflow" / "mlflow.db").write_text("this is no database" * 100)
    log = tmp_path / "log"
    ui = start(tmp_path, log, free_port(), free_port())
    try:
        wait_for(lambda: psutil.Process(ui.pid).children(), "no server", ui)
        servers = psutil.Process(ui.pid).children()
        assert ui.wait(300) == 1
        printed = log.read_text().splitlines()
        (error,) = [place for place, line in enumerate(printed) if line.startswith("error: MLflow ")]
        assert ".mlflow/server.log" in printed[error]
        assert "file is not a database" in "".join(printed[error + 1 :])
        assert "http://" not in "".join(printed[:error])
        assert [server for server in servers if server.is_running()] == []
    finally:
        end(ui)


@pytest.mark.slow
def test_both_serve_in_a_folder_with_an_odd_name_and_end_together(tmp_path: Path) -> None:
    folder = tmp_path / "o d'd\"?#%20$x&ü"
    folder.mkdir()
    log, ports = tmp_path / "log", (free_port(), free_port())
    ui = start(folder, log, *ports)
    try:
        wait_for(lambda: log.read_text().count("http://") >= 2, "no addresses", ui)
        for port, path in zip(ports, ("/health", "/api/health"), strict=True):
            assert answers(f"http://127.0.0.1:{port}{path}")
            assert f"http://127.0.0.1:{port}/" in log.read_text()
        second = start(folder, tmp_path / "second", free_port(), free_port())
        assert second.wait(300) == 1
        assert f"process {ui.pid} " in (tmp_path / "second").read_text()
        assert f"http://127.0.0.1:{ports[1]}/" in (tmp_path / "second").read_text()
        assert (folder / ".mlflow" / "mlflow.db").stat().st_size > 0
        assert {path.name for path in tmp_path.iterdir()} == {folder.name, "log", "second"}
        family = psutil.Process(ui.pid).children(recursive=True)
        assert len(family) >= 2
        ui.send_signal(signal.SIGINT)
        assert ui.wait(60) == 0
        assert [process for process in family if process.is_running()] == []
    finally:
        end(ui)
