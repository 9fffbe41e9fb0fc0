import os
import subprocess
import sys
from pathlib import Path

import psutil  # type: ignore[import-untyped]  # has no stubs among the locked packages
import pytest

from flows.environment import settle
from tests.project import ROOT, environment
from tests.servers import TIMEOUT, wait_for

PROXY = "http://127.0.0.1:9"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({}, "127.0.0.1,localhost,::1"),
        ({"NO_PROXY": "a.org, b.org"}, "a.org, b.org,127.0.0.1,localhost,::1"),
        ({"NO_PROXY": "a.org", "no_proxy": "b.org,localhost"}, "b.org,localhost,127.0.0.1,::1"),
    ],
)
def test_loopback_needs_no_proxy(before: dict[str, str], after: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.setenv(name, before.get(name, ""))
    settle()
    assert os.environ["no_proxy"] == os.environ["NO_PROXY"] == after
    settle()
    assert os.environ["no_proxy"] == after


def test_no_proxy_at_all_stays_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "*")
    settle()
    assert os.environ["no_proxy"] == "*"


def test_places_of_another_repository_are_dropped_and_its_configuration_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_CONFIG_COUNT", "GIT_AUTHOR_NAME"):
        monkeypatch.setenv(name, "0")
    settle()
    assert {name for name in os.environ if name.startswith("GIT_")} >= {"GIT_CONFIG_COUNT", "GIT_AUTHOR_NAME"}
    assert not {"GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"} & set(os.environ)


def test_a_user_without_a_name_gets_one(monkeypatch: pytest.MonkeyPatch) -> None:
    def nameless() -> str:
        raise KeyError("getpwuid(): uid not found: 12345")

    monkeypatch.setenv("LOGNAME", "")
    monkeypatch.setattr("getpass.getuser", nameless)
    settle()
    assert os.environ["LOGNAME"] == str(os.getuid())


@pytest.mark.parametrize(("module", "proxy"), [("flows", "socks://127.0.0.1:9"), ("flows.worker", PROXY)])
def test_a_server_that_does_not_answer_is_an_error_at_once(module: str, proxy: str) -> None:
    """Also the client starts with any proxy, which a server on this machine is not asked through."""
    variables = {
        name: proxy for kind in ("http", "https", "all") for name in (f"{kind}_proxy", f"{kind}_PROXY".upper())
    }
    ended = subprocess.run(
        [sys.executable, "-m", module],
        cwd=ROOT,
        env=environment(**variables, PREFECT_API_URL="http://127.0.0.1:1/api"),
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )
    assert ended.returncode == 1
    (line,) = ended.stderr.splitlines()
    assert line.startswith("error: ")
    assert "http://127.0.0.1:1/api" in line
    assert "PREFECT_API_URL" in line


@pytest.mark.slow
def test_a_command_ends_soon_after_the_flow_that_started_it_was_killed(tmp_path: Path) -> None:
    started = tmp_path / "pid"
    code = f"import commands, os, time; open({str(started)!r}, 'w').write(str(os.getpid())); time.sleep(600)"
    flow = f"import sys; from flows.environment import completed; completed(sys.executable, '-c', {code!r})"
    with subprocess.Popen([sys.executable, "-c", flow], cwd=ROOT, env=environment()) as process:
        wait_for(lambda: started.exists() and started.read_text(), "no command", process)
        command = psutil.Process(int(started.read_text()))
        process.kill()
    command.wait(TIMEOUT)  # less than it sleeps
