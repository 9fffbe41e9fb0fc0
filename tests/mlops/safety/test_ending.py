"""How a stage ends: real processes, real signals, a DVC and a flow that die."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.servers import end_all, wait_for

ROOT = Path(__file__).parents[3]
# A stage that takes a signal up after the present step, for which it has time on a busy machine, too, or never.
STAGE = """
import sys, time
from mlops.safety import ending
ending.GRACE = ending.ORPHAN = 3 if sys.argv[1:] == ["deaf"] else 60
ending.end_in_time()
with ending.deferred():
    print("runs", flush=True)
    while sys.argv[1:] == ["deaf"] or not ending.asked_to_stop():
        time.sleep(0.05)
    ending.stop(1340, 6000)
"""
# What starts it, in a shell that waits for it as some do, and dies.
PARENT = """
import subprocess, sys
subprocess.Popen(["sh", "-c", '"$0" -c "$1"; true', sys.executable, sys.argv[1]]).wait()
"""
Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def start() -> Iterator[Start]:
    """Return a function that starts Python code with more variables, and reads its first line."""
    started: list[subprocess.Popen[str]] = []

    def run(code: str, *arguments: str, **variables: str) -> Any:
        command = [sys.executable, "-c", code, *arguments]
        own = {name: value for name, value in os.environ.items() if name not in ("DVC_STAGE", "EQUILIBRIUM_PARENTS")}
        own |= {"PYTHONPATH": str(ROOT)} | variables
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=own)
        started.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == "runs\n"
        return process

    yield run
    end_all(started)


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGHUP, 129)])
def test_a_signal_ends_after_the_step_with_its_status(number: signal.Signals, status: int, start: Start) -> None:
    stage = start(STAGE, DVC_STAGE="train")
    stage.send_signal(number)
    printed, _ = stage.communicate()
    assert printed == "stopped at step 1,340 of 6,000; dvc repro goes on\n"
    assert stage.returncode == status


def test_the_line_names_what_goes_on(start: Start) -> None:
    for variables, named in (
        ({"EQUILIBRIUM_FLOW_RUN_ID": "1"}, "make run"),
        ({"EQUILIBRIUM_FLOW_RUN_ID": "1", "PREFECT__FLOW_RUN_ID": "1"}, "the next run"),
    ):
        stage = start(STAGE, **variables)
        stage.terminate()
        assert f"; {named} goes on" in stage.communicate()[0]


def test_what_takes_no_signal_up_ends_all_the_same(start: Start) -> None:
    stage = start(STAGE, "deaf")
    began = time.monotonic()
    stage.terminate()
    stage.communicate()
    assert stage.returncode == 143
    assert time.monotonic() - began > 2.9


def test_a_signal_that_is_ignored_stays_so(start: Start) -> None:
    stage = start(f"import signal; signal.signal(signal.SIGHUP, signal.SIG_IGN)\n{STAGE}")
    stage.send_signal(signal.SIGHUP)
    time.sleep(0.3)
    assert stage.poll() is None
    stage.terminate()
    stage.communicate()
    assert stage.returncode == 143


def test_a_stage_ends_after_its_dvc_though_a_shell_waits_in_between(start: Start) -> None:
    dvc = start(PARENT, STAGE, DVC_STAGE="train")
    dvc.kill()
    assert dvc.stdout is not None
    assert dvc.stdout.read() == "stopped at step 1,340 of 6,000; dvc repro goes on\n"


def test_a_stage_ends_after_its_flow_though_dvc_lives(start: Start) -> None:
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"]) as flow:
        dvc = start(PARENT, STAGE, DVC_STAGE="train", EQUILIBRIUM_PARENTS=str(flow.pid))
        flow.kill()  # and nobody waits for it, so it stays in the table of processes
        assert dvc.stdout is not None
        assert "stopped at step" in dvc.stdout.readline()
        dvc.wait(60)


def test_a_stage_whose_flow_is_gone_before_it_begins_ends_at_once() -> None:
    with subprocess.Popen(["true"]) as gone:
        gone.wait()
    own = os.environ | {"PYTHONPATH": str(ROOT), "EQUILIBRIUM_PARENTS": str(gone.pid)}
    ended = subprocess.run([sys.executable, "-c", STAGE, "deaf"], env=own, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout) == (143, "")


def test_who_types_a_stage_may_close_the_shell(start: Start) -> None:
    shell = start(PARENT, STAGE)
    (child,) = Path(f"/proc/{shell.pid}/task/{shell.pid}/children").read_text().split()
    (stage,) = Path(f"/proc/{child}/task/{child}/children").read_text().split()
    shell.kill()
    shell.wait()
    time.sleep(1.5)  # it looks for its parents every second
    assert Path(f"/proc/{stage}").exists()
    os.kill(int(stage), signal.SIGTERM)
    wait_for(lambda: not Path(f"/proc/{stage}").exists(), "the stage ends")
