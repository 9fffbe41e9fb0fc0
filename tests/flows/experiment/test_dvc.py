import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import psutil  # type: ignore[import-untyped]  # has no stubs among the locked packages
import pytest

from flows.experiment import dvc as module
from flows.experiment.dvc import USED, Dvc, checked, mend_lock, outdated, start_check
from flows.failure import BUSY, StageFailedError
from tests.project import ROOT
from tests.servers import wait_for

LISTED = b'{"write": {"/images": {"pid": 1, "cmd": "dvc repro"}}, "read": {}}'
STAND_IN = """
import json, os, pathlib, subprocess, sys
def main(command):
    with open("asked", "a") as asked:
        read = subprocess.run(["cat"]).returncode
        asked.write(json.dumps([os.getpid(), command, os.environ.get("TOLD"), read]) + "\\n")
    answers = pathlib.Path(command[0])
    (text, status), *left = json.loads(answers.read_text())
    answers.write_text(json.dumps(left or [[text, status]]))
    print(text, end="")
    if status == "dies":
        sys.stdout.flush()
        os.kill(os.getpid(), 9)
    return status
"""
"""In the place of DVC: it gives the next answer to a command, or the last again, after a stage that reads its input."""


@pytest.fixture
def dvc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Dvc]:
    """Return a process whose DVC answers what `answers` has written."""
    (tmp_path / "dvc").mkdir()
    (tmp_path / "dvc" / "__init__.py").touch()
    (tmp_path / "dvc" / "cli.py").write_text(STAND_IN)
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{ROOT}")
    monkeypatch.chdir(tmp_path)
    dvc = Dvc()
    yield dvc
    dvc.close()


def answers(command: str, *pairs: tuple[str, int | str]) -> None:
    Path(command).write_text(json.dumps(pairs))


def asked() -> list[tuple[int, list[str], str | None, int]]:
    """Return process, command, variable and whether a stage could read its input, of each command."""
    return [tuple(json.loads(line)) for line in Path("asked").read_text().splitlines()]


def test_commands_are_answered_in_their_order_by_one_process_to_their_ends(dvc: Dvc) -> None:
    answers("repro", ("one\ntwo", 0), ("three\n", 0))
    answers("status", ("", 3))
    for number, command in enumerate((["repro", "a b"], ["status"], ["repro"])):
        dvc.send(*command, TOLD=str(number))
    assert ([*dvc.answer()], dvc.status()) == (["one\n", "two"], 0)
    assert ([*dvc.answer()], dvc.status()) == ([], 3)
    assert ([*dvc.answer()], dvc.status()) == (["three\n"], 0)
    processes, commands, told, inputs = zip(*asked(), strict=True)
    assert {*processes} == {dvc.start().pid}
    assert commands == (["repro", "a b"], ["status"], ["repro"])
    assert told == ("0", "1", "2")
    assert {*inputs} == {0}  # no stage has read a command


def test_after_a_kill_the_status_says_so_and_the_next_command_has_a_process(dvc: Dvc) -> None:
    answers("repro", ("so far", "dies"), ("again", 0), ("once more", 0))
    dvc.send("repro")
    assert ([*dvc.answer()], dvc.status()) == (["so far"], -signal.SIGKILL)
    dvc.send("repro")
    assert ([*dvc.answer()], dvc.status()) == (["again"], 0)
    process = dvc.start()
    process.kill()
    process.wait()
    dvc.send("repro")
    assert ([*dvc.answer()], dvc.status()) == (["once more"], 0)
    assert len({process for process, *_ in asked()}) == 3


@pytest.mark.parametrize("work", ["", "dvc.send('repro'); next(dvc.answer()); "])
def test_it_ends_with_whoever_started_it(work: str, dvc: Dvc, tmp_path: Path) -> None:
    (tmp_path / "dvc" / "cli.py").write_text("import time\ndef main(command): print(flush=True), time.sleep(600)")
    code = f"from flows.experiment.dvc import Dvc; dvc = Dvc(); {work}print(dvc.start().pid, flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=-1, stdout=-1, text=True) as owner:
        assert owner.stdout is not None
        process = psutil.Process(int(owner.stdout.readline()))
        assert os.getpgid(process.pid) == process.pid
        owner.kill()
        owner.wait()
        wait_for(lambda: not process.is_running() or process.status() == psutil.STATUS_ZOMBIE, "it goes on")


def ask(dvc: Dvc) -> Dvc:
    for command in (module.FIRST, module.STATUS):
        dvc.send(*command)
    return dvc


def test_dvc_is_asked_again_while_what_a_killed_flow_left_still_ends(dvc: Dvc, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ORPHANED", 600.0)
    busy = f"ERROR: '/p/reports' is busy, {BUSY}:\n"
    answers("repro", (busy, 255), (busy, 255), ("", 0))
    answers("status", ('a warning\n{"train": []}\n', 0))
    assert checked(ask(dvc)) == {"train"}
    answers("repro", ("", 0))
    answers("status", (busy, 255), ("{}", 0))
    assert checked(ask(dvc)) == set()
    monkeypatch.setattr(module, "ORPHANED", 0.0)
    answers("repro", (busy, 255))
    with pytest.raises(SystemExit, match="another run works in this project"):
        checked(ask(dvc))


def test_any_other_refusal_of_dvc_is_an_error_at_once(dvc: Dvc, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "sleep", lambda _: pytest.fail("it waits"))
    answers("repro", ("ERROR: no such file\n", 255))
    answers("status", ("ERROR: no such stage\n", 255))
    with pytest.raises(SystemExit, match="no such file"):
        checked(ask(dvc))
    with pytest.raises(StageFailedError, match="no such stage"):
        outdated(dvc)


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


@pytest.mark.parametrize("kind", ["pipe", "folder", "deep", "aliases"])
def test_parameters_that_would_stop_dvc_are_an_error_before(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    path, names = Path("params.yaml"), "abcdefghi"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "deep":
        path.write_text("x: " + "[" * 100_000)
    else:
        lists = (f"{name}: &{name} [{', '.join([f'*{before}'] * 9)}]\n" for before, name in pairwise(names))
        path.write_text("a: &a [1]\n" + "".join(lists))
    with pytest.raises(SystemExit, match=r"^error: params\.yaml "):
        checked(start_check())
