import os
from pathlib import Path

import pytest

from stages.errors import StageError
from stages.tracking import EXPERIMENT, connect, flatten


def test_a_server_that_does_not_answer_is_said_soon_with_its_address(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] == "2"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    with pytest.raises(StageError, match=r"MLFLOW_TRACKING_URI=http://127\.0\.0\.1:9: .*; start the server or unset"):
        connect()


def test_a_store_that_mlflow_refuses_is_said(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", str(root / "mlruns"))
    with pytest.raises(StageError, match="MLFLOW_TRACKING_URI"):
        connect()


def test_an_experiment_that_was_deleted_comes_back(root: Path) -> None:
    client, experiment = connect()
    client.delete_experiment(experiment)
    assert connect()[1] == experiment
    assert [found.name for found in client.search_experiments()].count(EXPERIMENT) == 1


def test_names_are_dotted() -> None:
    assert flatten({"a": {"b": 1, "c": {"d": None}}, "e": 2}) == {"a.b": 1, "a.c.d": None, "e": 2}
