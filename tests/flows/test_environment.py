import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest

import flows.environment
from flows.environment import USED, checked, mend_lock, settle
from flows.failure import BUSY
from tests.project import ROOT, environment

PROXY = "http://127.0.0.1:9"
LISTED = b'{"write": {"/images": {"pid": 1, "cmd": "dvc repro"}}, "read": {}}'


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


@pytest.mark.parametrize("left", [*(LISTED[:end] for end in range(len(LISTED))), b"\0" * len(LISTED), b"\xff"])
def test_what_a_kill_left_of_a_list_of_used_files_is_deleted(
    left: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    mend_lock()  # of a project in which DVC never ran
    USED.parent.mkdir(parents=True)
    guard = Path(f"{USED}.lock")
    guard.write_text(" 4711")
    mend_lock()
    USED.write_bytes(left)
    with guard.open("r+b") as held:
        fcntl.flock(held, fcntl.LOCK_EX)  # as a DVC that writes the list now
        mend_lock()
        assert USED.read_bytes() == left
    mend_lock()
    assert not USED.exists()


def test_a_whole_list_of_used_files_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    USED.parent.mkdir(parents=True)
    Path(f"{USED}.lock").touch()
    USED.write_bytes(LISTED)
    mend_lock()
    assert USED.read_bytes() == LISTED


def says(text: str, status: int) -> "subprocess.Popen[str]":
    """Return a process that prints what DVC would."""
    code = f"print({text!r}); raise SystemExit({status})"
    return subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)


def test_dvc_is_asked_again_while_what_a_killed_flow_left_still_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    busy = f"ERROR: '/p/reports' is busy, {BUSY}:"
    asked = [says(busy, 255), says('{"train": []}', 0)]
    monkeypatch.setattr(flows.environment, "start_check", lambda: asked.pop(0))
    assert checked(says(busy, 255)) == {"train"}
    assert asked == []
    monkeypatch.setattr(flows.environment, "ORPHANED", 0.0)
    with pytest.raises(SystemExit, match="another run works in this project"):
        checked(says(busy, 255))


def test_any_other_refusal_of_dvc_is_an_error_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flows.environment, "start_check", lambda: pytest.fail("asked again"))
    with pytest.raises(SystemExit, match="no such file"):
        checked(says("ERROR: no such file", 255))
