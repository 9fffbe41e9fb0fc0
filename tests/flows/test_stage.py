import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil  # type: ignore[import-untyped]  # has no stubs among the locked packages
import pytest
from prefect.logging import disable_run_logger

from flows.stage import StageDiedError, StageFailedError, own_error, run
from tests.servers import TIMEOUT, end, wait_for

DVC_CLOSES = "ERROR: failed to reproduce 'train': failed to run: python -m stages train, exited with 1"
# A stage that starts a process of its own, writes its id to a file, and waits for it.
PARENT = """
import pathlib, subprocess, sys  # -3 is subprocess.DEVNULL
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], stdout=-3, stderr=-3)
pathlib.Path(sys.argv[1]).write_text(str(child.pid) + "\\n")
child.wait()
"""
# A flow that runs it; an interrupt reaches only the flow, as that of a Prefect worker does.
FLOW = """
import sys
from prefect.logging import disable_run_logger
from flows.stage import run
with disable_run_logger():
    run([sys.executable, *sys.argv[1:]], "train")
"""


@pytest.fixture
def run_python() -> Iterator[Callable[..., None]]:
    """Return a function that runs Python code as the stage `train`, outside of any flow."""

    def run_code(code: str, *arguments: str) -> None:
        run([sys.executable, "-c", code, *arguments], "train")

    with disable_run_logger():
        yield run_code


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (["train: steps 10 of 60", "error: params.yaml: unknown key a", DVC_CLOSES], "params.yaml: unknown key a"),
        (["error: params.yaml: a", "params.yaml: b", DVC_CLOSES], "params.yaml: a\nparams.yaml: b"),
        (["error: first try", "error: second try", DVC_CLOSES], "second try"),
        (["Traceback (most recent call last):", '  File "a.py"', "ValueError: 3", DVC_CLOSES], "ValueError: 3"),
        (["ERROR: Unable to acquire lock."], "ERROR: Unable to acquire lock."),
    ],
)
def test_the_own_error_of_a_stage_is_found_in_its_output(lines: list[str], expected: str) -> None:
    assert own_error(lines) == expected


def test_a_stage_without_output_has_an_error_too() -> None:
    assert own_error([]) == own_error([DVC_CLOSES]) != DVC_CLOSES


def test_a_stage_that_prints_its_error_failed(run_python: Callable[..., None]) -> None:
    with pytest.raises(StageFailedError, match=r"\btrain\b.*\b1\b.*: no data$") as caught:
        run_python("import sys; sys.exit('error: no data')")
    assert not isinstance(caught.value, StageDiedError)


def test_a_stage_that_is_killed_died(run_python: Callable[..., None]) -> None:
    with pytest.raises(StageDiedError, match=r"\btrain\b.*-9\b.*: step 3$"):
        run_python("import os; print('step 3', flush=True); os.kill(os.getpid(), 9)")


def test_a_stage_finds_the_programs_beside_its_python(
    run_python: Callable[..., None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    run_python("import os, sys; open(sys.argv[1], 'w').write(os.environ['PATH'])", str(tmp_path / "path"))
    assert (tmp_path / "path").read_text() == f"{Path(sys.executable).parent}:/nowhere"


def test_what_a_stage_left_running_ends_with_it(run_python: Callable[..., None], tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    run_python(PARENT.replace("child.wait()", ""), str(pid_file))
    assert not alive(int(pid_file.read_text()))


def test_an_interrupted_flow_ends_the_stage_and_what_it_started(tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    flow = subprocess.Popen(
        [sys.executable, "-c", FLOW, "-c", PARENT, str(pid_file)], stderr=subprocess.DEVNULL, start_new_session=True
    )
    try:
        wait_for(lambda: pid_file.exists() and pid_file.read_text().endswith("\n"), "no stage", flow)
        grandchild = int(pid_file.read_text())
        assert os.getpgid(grandchild) != os.getpgid(flow.pid)
        assert alive(grandchild)
        flow.send_signal(signal.SIGINT)
        assert flow.wait(TIMEOUT) != 0
        assert not alive(grandchild)
    finally:
        end(flow)


def test_a_stage_may_finish_its_last_work_after_dvc_has_ended(tmp_path: Path) -> None:
    pid_file, last_file, ready_file = (tmp_path / name for name in ("pid", "last", "ready"))
    slow = (
        "import pathlib, signal, time; "
        f"signal.signal(15, lambda *_: (time.sleep(1), open({str(last_file)!r}, 'w'), 1 / 0)); "
        f"open({str(ready_file)!r}, 'w')"
    )
    code = PARENT.replace("import time;", f"{slow};")
    flow = subprocess.Popen(
        [sys.executable, "-c", FLOW, "-c", code, str(pid_file)], stderr=subprocess.DEVNULL, start_new_session=True
    )
    try:
        wait_for(lambda: pid_file.exists() and pid_file.read_text().endswith("\n"), "no stage", flow)
        wait_for(ready_file.exists, "it handles no signal")
        flow.send_signal(signal.SIGINT)
        assert flow.wait(TIMEOUT) != 0
        assert last_file.exists()
    finally:
        end(flow)


def alive(pid: int) -> bool:
    """Return whether a process runs; one that ended and that nobody waits for does not."""
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False
