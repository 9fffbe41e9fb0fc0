import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from mlflow import MlflowClient
from mlflow.data.pandas_dataset import from_pandas
from mlflow.entities import DatasetInput, Run
from mlflow.exceptions import MlflowException
from mlflow.types import Schema

from mlops.tracking.run_writer import RunWriter, open_run
from mlops.tracking.runs import connect


def datasets(client: MlflowClient, run: Run) -> list[DatasetInput]:
    inputs = client.get_run(run.info.run_id).inputs
    return list(inputs.dataset_inputs) if inputs is not None else []


def test_a_run_has_the_dataset_that_mlflow_would_log(root: Path, prepared: Path) -> None:
    """MLflow reads the table for it, which may have millions of rows."""
    client, experiment = connect()
    run = client.create_run(experiment)
    RunWriter(client, run).write_dataset(prepared, "abc.dir")
    (logged,) = datasets(client, run)
    manifest = pd.read_parquet(prepared / "manifest.parquet")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of names for sources, and of whole numbers
        theirs: Any = from_pandas(manifest, source=str(prepared), name="digits", digest="abc.dir")._to_mlflow_entity()
    ours: Any = logged.dataset
    assert (ours.name, ours.digest, ours.source) == (theirs.name, theirs.digest, theirs.source)
    assert (ours.source_type, ours.profile) == (theirs.source_type, theirs.profile)
    columns = Schema.from_json(json.dumps(json.loads(ours.schema)["mlflow_colspec"]))
    theirs_by_name = {column["name"]: column["type"] for column in json.loads(theirs.schema)["mlflow_colspec"]}
    assert columns.input_names() == list(theirs_by_name) == list(manifest.columns)
    # If no row of digits has a value, MLflow infers no type; the file has one.
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


def test_a_link_into_a_read_only_cache_becomes_a_file(root: Path) -> None:
    """As which DVC places outputs with `cache.type symlink`."""
    cached, output = root / "cache" / "41dc", root / "picture.png"
    cached.parent.mkdir()
    cached.write_bytes(b"png")
    cached.chmod(0o444)
    output.symlink_to(cached)
    client, experiment = connect()
    run = client.create_run(experiment)
    for _ in range(2):
        RunWriter(client, run).write_files([output], "diagnosis")
    written = Path(run.info.artifact_uri.removeprefix("file://")) / "diagnosis" / "picture.png"
    assert not written.is_symlink()
    assert written.read_bytes() == b"png"
    assert written.stat().st_mode & 0o200
    assert (output.is_symlink(), cached.stat().st_mode & 0o777) == (True, 0o444)


def test_a_run_is_renamed_after_its_data_unless_a_person_named_it(root: Path, prepared: Path) -> None:
    """A training is not told which folder its images came from; the stage that registers it is."""
    parameters = {
        "network": {"family": "mlp", "conditional": True},
        "train": {"loss": "minimax", "steps": 5, "seed": 0},
        "augmentation": {"kind": "ada"},
    }
    for key, title in (("1a2b3c", None), ("4d5e6f", "my favourite")):
        facts = {"key": key, "data_md5": "abc.dir", "parameters": parameters, "device": "cpu"}
        begun = open_run(facts, prepared)
        if title is not None:
            begun.client.update_run(begun.id, name=title)
        named = open_run(facts, prepared, "passport", data="holidays").client.get_run(begun.id)
        assert named.info.run_name == (title or f"minimax 5 s0 mlp by class ada holidays {key[:4]}")
        assert title is not None or named.data.tags["data"] == "holidays"


def test_a_curve_is_written_once_and_a_changed_value_is_added(root: Path) -> None:
    client, experiment = connect()
    run = client.create_run(experiment)

    def written(values: dict[int, float]) -> list[tuple[int, float]]:
        RunWriter(client, run).write_curve("kid", values)
        return [(point.step, point.value) for point in client.get_metric_history(run.info.run_id, "training/kid")]

    first = [(10, 0.1), (20, 1 / 3)]
    assert written(dict(first)) == written(dict(first)) == first
    assert set(written({10: 0.1, 20: 0.2, 30: 0.0})) == {*first, (20, 0.2), (30, 0.0)}


def test_a_row_is_written_as_a_whole_or_not_at_all(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the metric d_loss a row counts as written, and MLflow takes 1,000 metrics at once."""
    client, experiment = connect()
    run = client.create_run(experiment)
    writer = RunWriter(client, run)
    rows = [{"step": step, "d_loss": 1.0, "g_loss": 2.0, "variety": 3.0} for step in range(400)]
    whole = client.log_batch
    with monkeypatch.context() as patch:
        patch.setattr(client, "log_batch", _once(whole))
        with pytest.raises(MlflowException):
            writer.write_rows(rows)
    again = RunWriter(client, run)
    assert 0 < len(again.known_steps) < 400
    again.write_rows(rows)
    for name in ("d_loss", "g_loss", "variety"):
        history = client.get_metric_history(run.info.run_id, f"training/{name}")
        assert sorted(metric.step for metric in history) == [*range(400)]


def _once(write: Callable[..., object]) -> Callable[..., None]:
    """Return a function that writes the first batch and refuses the next."""
    written: list[int] = []

    def log_batch(run_id: str, **content: Any) -> None:
        if written:
            raise MlflowException("away")
        written.append(1)
        write(run_id, **content)

    return log_batch
