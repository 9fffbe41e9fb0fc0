import threading
from pathlib import Path

import pytest

from mlops.project.result_files import snapshot_path
from mlops.tracking.sweeps import follow
from mlops.tracking.sweeps.follow import wait_for_store, written


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(follow, "POLL", 0.01)


def test_a_store_is_waited_for_until_somebody_else_has_begun_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = tmp_path / "mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{store}")
    waiting = threading.Thread(target=wait_for_store, daemon=True)
    waiting.start()
    store.touch()
    waiting.join(0.1)
    assert waiting.is_alive()
    store.write_bytes(b"begun")
    waiting.join(30)
    assert not waiting.is_alive()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:1")
    wait_for_store()


def test_each_snapshot_comes_once_until_the_training_has_ended(tmp_path: Path) -> None:
    folder = tmp_path / "snapshots"
    folder.mkdir()
    for step in (10, 20):
        snapshot_path(folder, step).touch()
    steps = []
    for step, path in written(folder, {10}):
        steps.append(step)
        assert path == snapshot_path(folder, step)
        if step == 20:
            snapshot_path(folder, 30).touch()
        else:
            for left in folder.iterdir():
                left.unlink()
            folder.rmdir()
    assert steps == [20, 30]
