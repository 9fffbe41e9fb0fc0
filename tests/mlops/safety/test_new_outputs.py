import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from mlops.project.errors import UserError, disk_errors
from mlops.safety.new_outputs import new_folder, new_outputs
from mlops.safety.written_files import unknown_files

ROOT = Path(__file__).parents[3]


@pytest.fixture(autouse=True)
def _in_a_project(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path_factory.mktemp("project"))


def test_folder_appears_with_its_content_only_when_the_block_ends(tmp_path: Path) -> None:
    with new_folder(tmp_path / "data" / "raw") as folder:
        (folder / "file").write_bytes(b"x")
        assert not (tmp_path / "data" / "raw").exists()
    assert (tmp_path / "data" / "raw" / "file").read_bytes() == b"x"
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["raw"]


def fill_and_raise(target: Path, error: BaseException) -> None:
    with new_folder(target) as folder:
        (folder / "file").write_bytes(b"x")
        raise error


@pytest.mark.parametrize("error", [ValueError("bad"), KeyboardInterrupt()])
def test_nothing_is_left_of_a_block_that_fails(tmp_path: Path, error: BaseException) -> None:
    with pytest.raises(type(error)):
        fill_and_raise(tmp_path / "raw", error)
    assert list(tmp_path.iterdir()) == []


def test_an_empty_folder_is_taken_over_and_a_full_one_is_never_deleted(tmp_path: Path) -> None:
    with new_folder(tmp_path) as folder:
        (folder / "mine").write_bytes(b"x")
    with pytest.raises(UserError, match=str(tmp_path)), new_folder(tmp_path):
        pass
    assert (tmp_path / "mine").read_bytes() == b"x"


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_full_disk_is_named_with_a_remedy_and_leaves_nothing(tmp_path: Path, number: int) -> None:
    with pytest.raises(UserError, match=r"raw .*\d bytes are free"):
        fill_and_raise(tmp_path / "raw", OSError(number, "no room"))
    with pytest.raises(UserError, match=r"images_train\.npy could not be written"):
        fill_and_raise(tmp_path / "raw", OSError(number, "no room", "raw/images_train.npy"))
    assert list(tmp_path.iterdir()) == []


def test_other_errors_of_the_system_pass_unchanged(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), disk_errors(tmp_path):
        (tmp_path / "missing").read_bytes()


def test_outputs_appear_together_and_are_noted(tmp_path: Path) -> None:
    folder, file = tmp_path / "reports" / "training", tmp_path / "models" / "weights"
    with new_outputs([folder, file]) as [new, partial]:
        new.mkdir()
        (new / "history").write_bytes(b"1")
        partial.write_bytes(b"2")
        assert (new.name, partial.name) == (folder.name, file.name)
        assert not folder.exists()
        assert not file.exists()
    assert unknown_files(folder) == unknown_files(file) == []
    assert [path.name for path in (*folder.parent.iterdir(), *file.parent.iterdir())] == ["training", "weights"]


def test_an_output_is_replaced_unless_a_person_changed_it(tmp_path: Path) -> None:
    target = tmp_path / "raw"
    for content in (b"1", b"2"):
        with new_outputs([target]) as [new]:
            new.mkdir()
            (new / content.decode()).write_bytes(content)
    assert [path.name for path in target.iterdir()] == ["2"]
    (target / "mine").write_bytes(b"mine")
    with pytest.raises(UserError, match=str(target)), new_outputs([target]):
        raise AssertionError("no work begins")
    assert {path.name for path in target.iterdir()} == {"2", "mine"}


def test_a_file_that_appears_during_the_work_stays(tmp_path: Path) -> None:
    target = tmp_path / "raw"

    def work() -> None:
        with new_outputs([target]) as [new]:
            new.mkdir()
            target.mkdir()
            (target / "mine").write_bytes(b"mine")

    with pytest.raises(UserError, match=str(target)):
        work()
    assert [path.name for path in target.iterdir()] == ["mine"]


def test_folders_of_killed_runs_go_and_those_of_running_ones_and_of_a_person_stay(tmp_path: Path) -> None:
    program = f"""
import os, time
from pathlib import Path
from mlops.safety.new_outputs import new_outputs
with new_outputs([Path({str(tmp_path / "raw")!r})]) as [new]:
    new.mkdir()
    print(new.parent, flush=True)
    time.sleep(600)
"""
    mine = tmp_path / ".raw.mine.partial"
    mine.mkdir()
    command, environment = [sys.executable, "-c", program], os.environ | {"PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        partial = Path(process.stdout.readline().strip())
        with new_outputs([tmp_path / "other"]):
            assert partial.is_dir()
        process.kill()
        process.wait()
    with new_outputs([tmp_path / "other"]):
        assert not partial.exists()
    assert [path.name for path in tmp_path.iterdir()] == [mine.name]
