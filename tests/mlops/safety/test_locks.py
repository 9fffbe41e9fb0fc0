import fcntl
from pathlib import Path

import pytest

from mlops.project.errors import UserError
from mlops.safety.locks import locked


def test_who_holds_a_lock_is_named_after_the_wait(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    monkeypatch.setattr("time.sleep", waits.append)
    monkeypatch.setattr("time.monotonic", lambda: float(len(waits)))
    with (tmp_path / "lock").open("w") as file:
        file.write("4711")
        file.flush()
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(UserError, match="process 4711 trains already"), locked(tmp_path, "trains", "", wait=3):
            pass
    assert len(waits) == 3


def test_a_lock_of_a_deleted_file_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its holder deletes the file and ends, while another process waits with the same file open."""
    opened: list[int] = []
    flock = fcntl.flock

    def deleted_once(file: int, how: int) -> None:
        if not opened:
            (tmp_path / "lock").unlink()
        opened.append(how)
        flock(file, how)

    monkeypatch.setattr(fcntl, "flock", deleted_once)
    with locked(tmp_path, "trains", ""):
        assert (tmp_path / "lock").exists()
    assert len(opened) == 2
