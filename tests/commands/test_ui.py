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

from benchmarks.harness.processes import alive
from commands.local_servers import Server, mlflow_server, prefect_server, running
from commands.local_servers import wait_for as wait_for_servers
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


def server(name: str, folder: Path, *command: str) -> Server:
    """Return a server that is a module of Python's, with arguments."""
    port = free_port()
    arguments = (str(port) if argument == "PORT" else argument for argument in command)
    return Server(name, port, "PORT", tuple(arguments), "/", "/", folder / name / "server.log", {})


def test_both_are_up_or_it_is_an_error_with_the_end_of_the_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", DEAD)
    good = server("good", tmp_path, "http.server", "PORT", "--bind", "127.0.0.1")
    with running((good,)) as (process,):
        wait_for_servers((good,), (process,))
        assert answers(good.address)
    assert process.poll() is not None
    assert not answers(good.address)

    bad = server("bad", tmp_path, "json.tool", "/nowhere")
    with pytest.raises(UserError, match=r"bad .*exit 2") as caught, running((good, bad)) as processes:
        wait_for_servers((good, bad), processes)
    assert "/nowhere" in str(caught.value).splitlines()[-1]
    assert str(bad.log) in str(caught.value)
    assert [process.poll() is None for process in processes] == [False, False]

    monkeypatch.setattr("commands.local_servers.START_WITHIN", 0.5)
    silent = server("silent", tmp_path, "timeit", "-n1", "-r1", "import time; time.sleep(600)")
    with pytest.raises(UserError, match="silent"), running((silent,)) as processes:
        wait_for_servers((silent,), processes)
    assert processes[0].poll() is not None


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
        wait_for(lambda: not any(map(alive, family)), f"one of {family} lives on")
    finally:
        end(ui)
