import json
import os
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest
from mlflow import MlflowClient
from mlflow.data.pandas_dataset import from_pandas
from mlflow.entities import DatasetInput, Run
from mlflow.types import Schema

from mlops.project.errors import UserError
from mlops.tracking.runs import EXPERIMENT, LiveRun, RunWriter, connect, flatten


def test_a_server_that_does_not_answer_is_said_soon_with_its_address(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] == "2"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    with pytest.raises(UserError, match=r"MLFLOW_TRACKING_URI=http://127\.0\.0\.1:9: .*; start the server or unset"):
        connect()


def test_a_store_that_mlflow_refuses_is_said(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", str(root / "mlruns"))
    with pytest.raises(UserError, match="MLFLOW_TRACKING_URI"):
        connect()


def test_an_experiment_that_was_deleted_comes_back(root: Path) -> None:
    client, experiment = connect()
    client.delete_experiment(experiment)
    assert connect()[1] == experiment
    assert [found.name for found in client.search_experiments()].count(EXPERIMENT) == 1


def datasets(client: MlflowClient, run: Run) -> list[DatasetInput]:
    inputs = client.get_run(run.info.run_id).inputs
    return list(inputs.dataset_inputs) if inputs is not None else []


def test_a_run_names_its_data_as_mlflow_would_without_reading_them(root: Path, prepared: Path) -> None:
    """The table may have millions of rows; MLflow's own way reads it and sees the same."""
    client, experiment = connect()
    run = client.create_run(experiment)
    RunWriter(client, run).write_dataset(prepared, "abc.dir")
    (found,) = datasets(client, run)
    manifest = pd.read_parquet(prepared / "manifest.parquet")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of names for sources, and of whole numbers
        theirs: Any = from_pandas(manifest, source=str(prepared), name="digits", digest="abc.dir")._to_mlflow_entity()
    ours: Any = found.dataset
    assert (ours.name, ours.digest, ours.source) == (theirs.name, theirs.digest, theirs.source)
    assert (ours.source_type, ours.profile) == (theirs.source_type, theirs.profile)
    columns = Schema.from_json(json.dumps(json.loads(ours.schema)["mlflow_colspec"]))
    theirs_by_name = {column["name"]: column["type"] for column in json.loads(theirs.schema)["mlflow_colspec"]}
    assert columns.input_names() == list(theirs_by_name) == list(manifest.columns)
    # Where no row of digits has a value, MLflow cannot tell the type; the file can.
    assert {kind.name for kind, name in zip(columns.input_types(), theirs_by_name, strict=True)} == {"string", "long"}
    assert all(
        theirs_by_name[name] in (kind.name, "any")
        for kind, name in zip(columns.input_types(), theirs_by_name, strict=True)
    )


def test_naming_the_data_reads_no_row(root: Path, prepared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(*_: object, **__: object) -> None:
        raise AssertionError("rows are read")

    for name in ("read", "read_row_group", "read_row_groups", "iter_batches"):
        monkeypatch.setattr(f"pyarrow.parquet.ParquetFile.{name}", forbidden)
    client, experiment = connect()
    run = client.create_run(experiment)
    RunWriter(client, run).write_dataset(prepared, "abc.dir")
    assert datasets(client, run)


def test_names_are_dotted() -> None:
    assert flatten({"a": {"b": 1, "c": {"d": None}}, "e": 2}) == {"a.b": 1, "a.c.d": None, "e": 2}


@pytest.mark.parametrize("cost", [0.001, 0.05, 1.0])
def test_writing_rows_takes_a_hundredth_of_the_time_at_most(cost: float, monkeypatch: pytest.MonkeyPatch) -> None:
    now, written = 0.0, []
    live = LiveRun.__new__(LiveRun)
    live.rows, live.lost, live.flushed, live.cost = [], False, 0.0, 0.0

    def write_rows(rows: list[dict[str, float]]) -> None:
        nonlocal now
        now += cost
        written.append(len(rows))

    live.writer = SimpleNamespace(write_rows=write_rows)  # type: ignore[assignment]
    monkeypatch.setattr("mlops.tracking.runs.time.monotonic", lambda: now)
    for step in range(20_000):
        now += 0.05
        live.log_row({"step": step})
        live.flush()
    assert len(written) * cost <= 0.011 * now
    assert len(written) >= now / max(3, 120 * cost)  # and no less often than that allows
    assert sum(written) + len(live.rows) == 20_000
