import json
import shutil
from pathlib import Path

import pytest

from mlops.runs.kept_work import delete_recorded, hand_over, note_made
from mlops.safety.locks import locked
from mlops.safety.written_files import load_note
from tests.death import DEATH

OF_TRAINING = ("state.safetensors", "previous.safetensors", "history.csv", "samples/step_0.png")
OF_PREPARE = ("rows", "images_train.npy", "images_test.npy")


@pytest.fixture(params=["0123456789abcdef", "prepare-0123456789abcdef"])
def place(request: pytest.FixtureRequest, root: Path) -> Path:
    """Return the folder of finished work, of which two outputs were made, and a person's file in it."""
    place: Path = root / ".checkpoints" / request.param
    for name in (*(OF_PREPARE if "prepare" in place.name else OF_TRAINING), "mine", "snapshots/mine.safetensors"):
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_text(name)
    for name in ("one", "two"):
        (root / name).mkdir()
        (root / name / "file").write_text(name)
    note_made(place, [root / "one", root / "two"])
    return place


def record(root: Path, count: int) -> None:
    """Write a lock of DVC that has so many of the outputs."""
    (note,) = (root / ".checkpoints").glob("*/made.json")
    outs = [{"path": md5, "md5": md5} for md5 in load_note(note)["outputs"][:count]]
    (root / "dvc.lock").write_text(json.dumps({"stages": {"train": {"outs": outs}}}))


def files(place: Path) -> set[str]:
    return {path.relative_to(place).as_posix() for path in place.rglob("*") if path.is_file()}


def test_work_stays_until_dvc_has_recorded_all_that_was_made_of_it(place: Path, root: Path) -> None:
    before = files(place)
    note = (place / "made.json").read_text()
    delete_recorded()  # there is no lock at all
    record(root, 1)
    delete_recorded()
    assert files(place) - {"lock"} == before
    record(root, 2)
    with locked(place, "", ""):
        delete_recorded()
    for damaged in ("", "{}", note[:-5], '{"outputs": 1}', note.replace(note[16], "x")):
        (place / "made.json").write_text(damaged)
        delete_recorded()
    assert files(place) - {"lock"} == before
    (place / "made.json").write_text(note)
    delete_recorded()
    assert files(place) == {"mine", "snapshots/mine.safetensors"}


def test_an_end_while_it_is_deleted_leaves_no_checkpoint_without_what_it_needs_and_is_made_up_for(
    place: Path, root: Path
) -> None:
    record(root, 2)
    shutil.copytree(place, root / "whole")
    before, changes, killed = files(place), 0, True
    while killed:
        shutil.rmtree(place)
        shutil.copytree(root / "whole", place)
        killed = DEATH.ends(delete_recorded, place, changes)
        left = files(place)
        if left & {"state.safetensors", "rows"}:
            assert before - left <= {"previous.safetensors"}, changes
        delete_recorded()
        assert files(place) - {"lock"} == {"mine", "snapshots/mine.safetensors"}, changes
        changes += 1
    assert changes > 5


def test_what_is_handed_over_has_the_bytes_also_across_file_systems(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "source").write_text("content")
    hand_over(tmp_path / "source", tmp_path / "linked")
    assert (tmp_path / "linked").samefile(tmp_path / "source")

    def other_file_system(*_: object) -> None:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr("os.link", other_file_system)
    hand_over(tmp_path / "source", tmp_path / "copied")
    assert (tmp_path / "copied").read_text() == "content"
    assert not (tmp_path / "copied").samefile(tmp_path / "source")
