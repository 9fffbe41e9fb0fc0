"""Damage in every file that a training reads back, and its end between any two writes."""

import os
import pickle
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import pytest

from gan_core.training.checkpoints import checkpoint_metadata
from mlops.runs.workspace import training_key
from tests.death import DEATH
from tests.stages.test_train import contents, killed_after

Train = Callable[..., Path]
SMALL = {"steps": 6, "checkpoint_every": 2, "report_every": 1, "sample_every": 3, "snapshots": 2}
STATE, PREVIOUS, HISTORY = "state.safetensors", "previous.safetensors", "history.csv"
GRIDS = {0: "samples/step_00000000.png", 3: "samples/step_00000003.png"}
SNAPSHOT = "snapshots/step_00000003.safetensors"


@pytest.mark.parametrize(
    ("parameters", "data_md5", "made_by"),
    [
        ({"train": {"seed": 1}}, "a", {"torch": "2", "device": "cpu"}),
        ({"train": {"seed": 0}}, "b", {"torch": "2", "device": "cpu"}),
        ({"train": {"seed": 0}}, "a", {"torch": "3", "device": "cpu"}),
        ({"train": {"seed": 0}}, "a", {"torch": "2", "device": "cuda"}),
    ],
)
def test_all_that_bits_depend_on_is_in_the_key(
    parameters: dict[str, dict[str, int]], data_md5: str, made_by: dict[str, str]
) -> None:
    key = training_key({"train": {"seed": 0}}, "a", {"device": "cpu", "torch": "2"})
    assert key == training_key({"train": {"seed": 0}}, "a", {"torch": "2", "device": "cpu"})
    assert key != training_key(parameters, data_md5, made_by)


@pytest.fixture
def small(train_tiny: Train, monkeypatch: pytest.MonkeyPatch) -> Callable[[], dict[str, bytes]]:
    """Return a function that trains six steps, without MLflow, and returns what was written."""
    monkeypatch.setattr("stages.train.LiveRun", MagicMock())
    count = 0

    def run() -> dict[str, bytes]:
        nonlocal count
        count += 1
        return contents(train_tiny(f"run-{count}", kept=True, **SMALL))

    return run


@pytest.fixture
def whole(small: Callable[[], dict[str, bytes]], root: Path) -> dict[str, bytes]:
    """Return what a run writes that nothing disturbs."""
    written = small()
    shutil.rmtree(root / ".checkpoints")
    return written


class Payload:
    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.target),)


def damages(content: bytes, payload: Path) -> Iterator[tuple[str, bytes | None]]:
    """Yield what can have become of a file: a bit flipped in each region, cut, zeros, a pickle, no file."""
    header = 8 + int.from_bytes(content[:8], "little")  # of safetensors
    seal = re.search(rb"[0-9a-f]{64}", content)
    places = {0, 7, 8, len(content) // 4, len(content) // 2, len(content) - 1}
    places |= {header - 1, header, header + 1} if header < len(content) else set()
    places |= {seal.start(), seal.end() - 1} if seal else set()
    for place in sorted(places):
        yield f"bit {place}", content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]
    for length in (0, 5, min(header, len(content)) - 1, len(content) // 2, len(content) - 1):
        yield f"cut {length}", content[:length]
    yield "zeros", bytes(len(content))
    yield "pickle", pickle.dumps(Payload(payload))
    yield "missing", None


def plant(path: Path, content: bytes | None) -> None:
    path.unlink()
    if content is not None:
        path.write_bytes(content)


def goes_on_from(name: str, damaged: bytes | None, records: dict[str, dict[str, Any]]) -> int:
    """Return the step from which a training can still go on after one file of its workspace was damaged."""
    for checkpoint in (STATE, PREVIOUS):
        record, step = records[checkpoint]["record"], records[checkpoint]["step"]
        size, _ = record["history"]
        original = records["history"]["content"][:size]
        if not (
            name == checkpoint
            or name in record["files"]
            or (name == HISTORY and (damaged is None or damaged[:size] != original))
        ):
            return int(step)
    return 0


@pytest.fixture
def place(small: Callable[[], dict[str, bytes]], root: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the workspace of a training that was killed after its fifth step."""
    with killed_after(5, monkeypatch):
        small()
    (place,) = (root / ".checkpoints").iterdir()
    return place


def test_any_damage_ends_with_the_right_bytes_and_names_the_file(
    small: Callable[[], dict[str, bytes]],
    whole: dict[str, bytes],
    place: Path,
    root: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    shutil.copytree(place, root / "sound")
    names = {path.relative_to(place).as_posix() for path in place.rglob("*") if path.is_file()} - {"lock"}
    assert names == {STATE, PREVIOUS, HISTORY, *GRIDS.values(), SNAPSHOT}
    records = {name: checkpoint_metadata(place / name) for name in (STATE, PREVIOUS)}
    records["history"] = {"content": (place / HISTORY).read_bytes()}
    assert [records[name]["step"] for name in (STATE, PREVIOUS)] == [4, 2]
    payload, starts = root / "executed", set()
    for name in sorted(names):
        for kind, damaged in damages((root / "sound" / name).read_bytes(), payload):
            shutil.rmtree(place)
            shutil.copytree(root / "sound", place)
            plant(place / name, damaged)
            capsys.readouterr()
            assert small() == whole, (name, kind)
            assert not payload.exists(), (name, kind)
            step, shown = goes_on_from(name, damaged, records), capsys.readouterr()
            assert (f"going on from step {step} of 6" in shown.out) == (step > 0), (name, kind)
            warnings = [line for line in shown.err.splitlines() if line.startswith("warning: ") and str(place) in line]
            touched = step < 4 and not (name == STATE and damaged is None)  # that one is just not there
            assert [f"{place / name} " in line for line in warnings] == [True] * touched, (name, kind, warnings)
            starts.add(step)
    assert starts == {0, 2, 4}


def test_without_a_sound_checkpoint_the_training_starts_from_the_beginning_and_says_so(
    small: Callable[[], dict[str, bytes]],
    whole: dict[str, bytes],
    place: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name in (STATE, PREVIOUS):
        content = bytearray((place / name).read_bytes())
        content[-5] ^= 4
        (place / name).write_bytes(content)
    assert small() == whole
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "damaged" in line]
    assert str(place / STATE) in line
    assert str(place / PREVIOUS) in line
    assert line.endswith("; training starts from the beginning")


def test_rows_behind_the_last_checkpoint_are_dropped_wherever_they_are_torn(
    small: Callable[[], dict[str, bytes]], whole: dict[str, bytes], root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with killed_after(5, monkeypatch):
        small()
    (place,) = (root / ".checkpoints").iterdir()
    shutil.copytree(place, root / "sound")
    (content,) = [content for name, content in whole.items() if name.endswith(HISTORY)]
    kept = (place / HISTORY).read_bytes()
    for more in (b"", b"4", content[len(kept) :], content[len(kept) :][:1], b"\x00" * 100, b"99,\n\n"):
        shutil.rmtree(place)
        shutil.copytree(root / "sound", place)
        (place / HISTORY).write_bytes(kept + more)
        assert small() == whole, more


def test_an_end_between_any_two_writes_ends_with_the_right_bytes(
    small: Callable[[], dict[str, bytes]], whole: dict[str, bytes], root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a first run, and of one that goes on from the checkpoint before the last, which is damaged."""
    with killed_after(5, monkeypatch):
        small()
    (place,) = (root / ".checkpoints").iterdir()
    (place / STATE).write_bytes(b"x")
    shutil.copytree(root / ".checkpoints", root / "damaged")
    for start in (None, root / "damaged"):
        changes, killed = 0, True
        while killed:
            shutil.rmtree(root / ".checkpoints")
            if start:
                shutil.copytree(start, root / ".checkpoints")
            killed = DEATH.ends(small, root / ".checkpoints", changes)
            assert small() == whole, changes
            changes += 1
        assert changes > 20
