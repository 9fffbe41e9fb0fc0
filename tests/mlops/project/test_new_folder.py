import errno
from pathlib import Path

import pytest

from mlops.project.errors import UserError, disk_errors
from mlops.project.new_folder import new_folder


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


def test_what_a_killed_run_left_does_not_get_in(tmp_path: Path) -> None:
    (tmp_path / ".raw.partial").mkdir()
    (tmp_path / ".raw.partial" / "old").write_bytes(b"x")
    with new_folder(tmp_path / "raw"):
        pass
    assert list((tmp_path / "raw").iterdir()) == []


def test_an_empty_folder_is_taken_over_and_a_full_one_is_never_deleted(tmp_path: Path) -> None:
    with new_folder(tmp_path) as folder:
        (folder / "mine").write_bytes(b"x")
    with pytest.raises(UserError, match=str(tmp_path)), new_folder(tmp_path):
        pass
    assert (tmp_path / "mine").read_bytes() == b"x"


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_full_disk_is_named_with_a_remedy_and_leaves_nothing(tmp_path: Path, number: int) -> None:
    with pytest.raises(UserError, match="raw"):
        fill_and_raise(tmp_path / "raw", OSError(number, "no room"))
    assert list(tmp_path.iterdir()) == []


def test_other_errors_of_the_system_pass_unchanged(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), disk_errors(tmp_path):
        (tmp_path / "missing").read_bytes()
