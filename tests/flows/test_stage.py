import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil  # type: ignore[import-untyped]  # has no stubs among the locked packages
import pytest
from prefect.logging import disable_run_logger

from flows.failure import StageDiedError, StageFailedError
from flows.stage import run
from tests.servers import end, wait_for

# A stage that starts a process of its own, writes its id, and waits for it.
PARENT = """
import pathlib, subprocess, sys  # -3 is subprocess.DEVNULL
code = "import time; [time.sleep(0.1) for _ in range(6000)]"
child = subprocess.Popen([sys.executable, "-c", code], stdout=-3, stderr=-3)
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


@pytest.mark.parametrize("force", ["FORCE_COLOR", "CLICOLOR_FORCE", "TTY_COMPATIBLE"])
def test_an_error_is_found_behind_the_codes_of_a_terminal(
    force: str, run_python: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(force, "1")
    run_python("import rich.console; assert not rich.console.Console().is_terminal")
    with pytest.raises(StageFailedError, match=r"1\): no data \[1\]$") as caught:
        run_python("import sys; sys.exit('\\33[2K\\33[1;31merror: no data [1]\\33[0m')")
    assert not isinstance(caught.value, StageDiedError)


def test_a_stage_with_an_error_of_its_own_failed(run_python: Callable[..., None]) -> None:
    with pytest.raises(StageFailedError, match=r"train .*1\): no data$") as caught:
        run_python("import sys; sys.exit('error: no data')")
    assert not isinstance(caught.value, StageDiedError)


def test_a_stage_that_is_killed_died(run_python: Callable[..., None]) -> None:
    with pytest.raises(StageDiedError, match=r"train .*-9\): step 3$"):
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
        wait_for(lambda: pid_file.exists() and pid_file.read_text().endswith("\n"), "no stage")
        grandchild = int(pid_file.read_text())
        assert os.getpgid(grandchild) != os.getpgid(flow.pid)
        assert alive(grandchild)
        flow.send_signal(signal.SIGINT)
        assert flow.wait(60) != 0
        assert not alive(grandchild)
    finally:
        end(flow)


def test_a_stage_may_finish_though_dvc_has_ended(tmp_path: Path) -> None:
    # PARENT's child sleeps in short pieces: a signal between Python's last look and the system's sleep waits for that
    pid_file, ended, listens = tmp_path / "pid", tmp_path / "ended", tmp_path / "listens"
    slow = (
        "import pathlib, signal, time; "
        f"signal.signal(15, lambda *_: (time.sleep(1), open({str(ended)!r}, 'w'), 1 / 0)); "
        f"open({str(listens)!r}, 'w')"
    )
    code = PARENT.replace("import time;", f"{slow};")
    flow = subprocess.Popen(
        [sys.executable, "-c", FLOW, "-c", code, str(pid_file)], stderr=subprocess.DEVNULL, start_new_session=True
    )
    try:
        wait_for(lambda: pid_file.exists() and pid_file.read_text().endswith("\n"), "no stage")
        wait_for(listens.exists, "no signal handler")
        flow.send_signal(signal.SIGINT)
        assert flow.wait(60) != 0
        assert ended.exists()
    finally:
        end(flow)


def alive(pid: int) -> bool:
    """Return whether a process runs; one that ended and that nobody waits for does not."""
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False
