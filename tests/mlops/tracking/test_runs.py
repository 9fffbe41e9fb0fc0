import os
from pathlib import Path

import pytest
from sqlalchemy import Engine

from mlops.project.errors import UserError
from mlops.tracking.runs import connect, flatten
from mlops.tracking.store import EXPERIMENT, check_store


def test_a_server_that_does_not_answer_is_named(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] == "2"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    with pytest.raises(UserError, match=r"MLFLOW_TRACKING_URI=http://127\.0\.0\.1:9 .*unset MLFLOW_TRACKING_URI"):
        connect()


def test_a_store_that_mlflow_refuses_is_named(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", str(root / "mlruns"))
    with pytest.raises(UserError, match="MLFLOW_TRACKING_URI"):
        connect()


def test_a_database_is_there_whole_or_not_at_all(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class KilledError(BaseException):
        pass

    def killed(_: Engine) -> None:
        raise KilledError

    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    with monkeypatch.context() as patch:
        patch.setattr("mlflow.store.db.utils._upgrade_db", killed)  # the first tables are made, the others are not
        with pytest.raises(KilledError):
            connect()
    assert [path.name[:12] for path in (root / ".mlflow").iterdir()] == ["mlflow.db.ne"]
    connect()
    check_store()
    assert [path.name for path in (root / ".mlflow").iterdir()] == ["mlflow.db"]


def test_an_experiment_that_was_deleted_comes_back(root: Path) -> None:
    client, experiment = connect()
    client.delete_experiment(experiment)
    assert connect()[1] == experiment
    assert [experiment.name for experiment in client.search_experiments()].count(EXPERIMENT) == 1


def test_names_are_dotted() -> None:
    assert flatten({"a": {"b": 1, "c": {"d": None}}, "e": 2}) == {"a.b": 1, "a.c.d": None, "e": 2}
