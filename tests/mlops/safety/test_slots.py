"""Slots are held by processes: real ones, which print when they begin."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mlops.project.errors import UserError
from mlops.safety import slots
from mlops.safety.slots import Slot, cpu_slots, occupied
from tests.servers import end_all, wait_for

ROOT = Path(__file__).parents[3]
HOLDER = """
import subprocess, sys, time
from mlops.safety.slots import Slot, occupied, shared
rank = "from mlops.safety.slots import shared; import time; s = shared(); s.__enter__(); print('rank', flush=True)"
with occupied("train", [[Slot("GPU 0", "gpu-a")]]):
    child = subprocess.Popen([sys.executable, "-c", rank + "; time.sleep(600)"]) if sys.argv[1:] else None
    print("holds", child.pid if child else "", flush=True)
    time.sleep(600)
"""
GPU = [Slot("GPU 0", "gpu-a")]
Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Start]:
    """Return a function that starts a holder of GPU 0, which has a rank if it is given an argument."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(slots, "gettempdir", lambda: str(tmp_path))
    started: list[subprocess.Popen[str]] = []

    def run(*arguments: str) -> Any:
        command = [sys.executable, "-c", HOLDER, *arguments]
        own = os.environ | {"PYTHONPATH": str(ROOT)}
        started.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=own, cwd=tmp_path))
        return started[-1]

    yield run
    end_all(started)


def line(process: "subprocess.Popen[str]") -> str:
    assert process.stdout is not None
    return process.stdout.readline()


def taken(choices: list[list[Slot]]) -> bool:
    """Return whether this process gets slots without waiting."""

    class WaitsError(Exception):
        pass

    def fail(_: float) -> None:
        raise WaitsError

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("time.sleep", fail)
        try:
            with occupied("train", choices):
                return True
        except WaitsError:
            return False


def test_a_gpu_has_one_holder_and_who_waits_names_it(
    start: Start, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    holder = start()
    assert line(holder).startswith("holds")
    assert not taken([GPU])
    printed = capsys.readouterr().out
    assert printed.startswith(f"train: waiting for GPU 0, held by process {holder.pid} (train in {tmp_path}, since 20")
    assert taken([[Slot("GPU 1", "gpu-b")]])
    holder.kill()
    holder.wait()
    assert taken([GPU])


def test_a_rank_that_outlives_its_launcher_keeps_the_slot(start: Start) -> None:
    holder = start("with a rank")
    lines = sorted([line(holder), line(holder)])
    assert lines[1] == "rank\n"
    rank = int(lines[0].split()[1])
    holder.kill()
    holder.wait()
    assert not taken([GPU])
    os.kill(rank, 9)
    wait_for(lambda: taken([GPU]), "the slot of a dead rank")


def test_who_waits_goes_on_once_the_holder_is_dead(start: Start) -> None:
    holder = start()
    line(holder)
    waiting = start()
    assert "waiting for GPU 0" in line(waiting)
    holder.kill()
    assert line(waiting).startswith("holds")


def test_the_cpu_has_as_many_slots_as_are_asked_for(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EQUILIBRIUM_SLOTS", "2")
    choices = [cpu_slots(64)]
    with occupied("train", choices), occupied("train", choices):
        assert not taken(choices)
    assert taken(choices)
    monkeypatch.setenv("EQUILIBRIUM_SLOTS", "none")
    with pytest.raises(UserError, match="EQUILIBRIUM_SLOTS is 'none'; set it"):
        cpu_slots(64)


def test_a_slot_that_was_deleted_is_made_anew(start: Start, tmp_path: Path) -> None:
    folder = tmp_path / f"equilibrium-{os.getuid()}"
    with occupied("train", [GPU]):
        (folder / "gpu-a").unlink()
    with occupied("train", [GPU]):
        assert (folder / "gpu-a").exists()
        assert not taken([GPU])


def test_a_folder_of_slots_that_others_may_change_is_refused(start: Start, tmp_path: Path) -> None:
    folder = tmp_path / f"equilibrium-{os.getuid()}"
    folder.mkdir(mode=0o777)
    folder.chmod(0o777)
    with pytest.raises(UserError, match="only you"), occupied("train", [GPU]):
        pass
    folder.rmdir()
    folder.symlink_to(tmp_path)
    with pytest.raises(UserError, match="only you"), occupied("train", [GPU]):
        pass
