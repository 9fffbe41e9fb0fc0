"""The tracking store, its experiment, and the run of a training in it; all can be rebuilt from DVC's outputs."""

import fcntl
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePath
from tempfile import TemporaryDirectory
from typing import Any
from uuid import uuid4

import mlflow
from mlflow import MlflowClient
from mlflow.entities import Run, ViewType
from mlflow.exceptions import MlflowException

from mlops.project.errors import UserError
from mlops.tracking.own_store import artifacts
from mlops.tracking.store import EXPERIMENT, check_store, sqlite_file, store_errors, title_of, tracking_uri

KEY_TAG = "training.key"
FLOW_TAG = "prefect.flow_run_id"
"""Tag of a run whose training a flow started."""
NOTE = "mlflow.note.content"
"""Tag of a run's description in MLflow."""
DATA_TAG, FID_TAG = "data", "fid"
"""Tags of a run: the name of its data, and FID with its interval and extractor."""
COLUMNS = {
    "attributes.`Run Name`": 200,
    "tags.`role`": 130,
    f"tags.`{FID_TAG}`": 165,
    "tags.`verdict`": 165,
    "tags.`doctor.verdict`": 120,
    f"tags.`{DATA_TAG}`": 75,
    "params.`train.loss`": 110,
    "params.`train.steps`": 90,
    "attributes.`Models`": 140,
}
"""Of the list of runs, and their widths in pixels: what decides between them."""
VIEW = {
    "mlflow.sharedViewState.deciding": json.dumps(
        {
            "name": "What decides",
            "createdAt": 0,
            "updatedAt": 0,
            "state": json.dumps(
                {
                    "selectedColumns": [*COLUMNS],
                    "columnOrder": [*COLUMNS],
                    "columnWidths": COLUMNS,
                    "runsHiddenMode": "SHOW_ALL",
                }
            ),
        }
    )
}
"""Tag of the experiment: the list of runs as the address `...?viewStateShareKey=deciding` opens it.

MLflow keeps a person's own choice of columns in the browser, and opens other addresses with it.
"""


def connect() -> tuple[MlflowClient, str]:
    """Return a client and the id of the experiment `gan-training`; a missing store or experiment is created.

    The store is MLFLOW_TRACKING_URI, or SQLite and a folder in `.mlflow/` of the project. If `check_store` or MLflow
    refuses it, that is a UserError.
    """
    check_store()
    uri = tracking_uri()
    mlflow.set_tracking_uri(uri)
    local = None if uri.startswith("http") else artifacts()
    try:
        with store_errors():
            if (database := sqlite_file(uri)) and database.parent.is_dir():
                _make_database(database)
            client = MlflowClient()
            experiment = client.get_experiment_by_name(EXPERIMENT)
            if experiment is not None:
                if experiment.lifecycle_stage == "deleted":
                    client.restore_experiment(experiment.experiment_id)
                for tag, view in VIEW.items():
                    if experiment.tags.get(tag) != view:
                        client.set_experiment_tag(experiment.experiment_id, tag, view)
                return client, experiment.experiment_id
            # If MLflow's page has no switch for it, this tag opens the experiment on its training runs.
            tags = {"mlflow.experimentKind": "custom_model_development"} | VIEW
            return client, client.create_experiment(EXPERIMENT, artifact_location=local, tags=tags)
    except MlflowException as error:
        raise UserError(f"{title_of(uri)}: {error}; run again, or name another store in MLFLOW_TRACKING_URI") from None


def _make_database(path: Path) -> None:
    """Make a database if there is none, whole or not at all: MLflow takes up none that a kill has left half made."""
    if path.exists():
        return
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore  # whoever uses a server needs none of it

    new = path.with_name(f"{path.name}.new-{uuid4().hex}")  # MLflow never opens an address twice in a process
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        if not path.exists():
            for left in path.parent.glob(f"{path.name}.new-*"):
                left.unlink()
            SqlAlchemyStore(f"sqlite:///{new}", artifacts()).engine.dispose()
            new.rename(path)
    finally:
        os.close(folder)


def find_run(client: MlflowClient, experiment: str, key: str, passport: str | None = None) -> Run | None:
    """Return the newest run of a training, by its key, if there is one.

    With the sha256 of a passport, runs whose scores have another one are passed over, because scores of one run must be
    comparable; a run with this passport comes before a run without scores.
    """
    runs = client.search_runs([experiment], f"tags.`{KEY_TAG}` = '{key}'", order_by=["start_time DESC"])
    if passport is None:
        return runs[0] if runs else None
    by_passport = {run.data.tags.get("passport"): run for run in reversed(runs)}
    return by_passport.get(passport) or by_passport.get(None)


def deleted_runs(client: MlflowClient, experiment: str) -> list[str]:
    """Return the ids of runs that a person has deleted in MLflow, but for those of registered versions."""
    registered = {version.run_id for version in client.search_model_versions()}
    runs = client.search_runs([experiment], run_view_type=ViewType.DELETED_ONLY, max_results=50_000)
    return [run.info.run_id for run in runs if run.info.run_id not in registered]


def artifact_names(client: MlflowClient, run_id: str, folder: str) -> set[str]:
    """Return the names of a run's artifacts in a folder."""
    return {PurePath(file.path).name for file in client.list_artifacts(run_id, folder)}


def fetch_artifacts(client: MlflowClient, run_id: str, folder: str, target: Path) -> Path:
    """Download a folder of a run's artifacts; return where it is, below `target`. If it is gone, it is a UserError."""
    try:
        return Path(client.download_artifacts(run_id, folder, str(target)))
    except (MlflowException, OSError) as error:
        raise UserError(
            f"run {run_id}: its files in {folder}/ cannot be downloaded ({error}); restore its params.yaml and "
            "dvc.lock from git, and run dvc checkout and dvc repro register, which writes them again"
        ) from None


@contextmanager
def real_copy(path: Path) -> Iterator[Path]:
    """Yield a copy of a file, of the same name, for MLflow to read.

    DVC may place outputs as links into its cache, with the cache's permissions; MLflow refuses the one and keeps the
    other.
    """
    with TemporaryDirectory() as folder:
        yield Path(shutil.copyfile(path, Path(folder) / path.name))


def flatten(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested values by dotted names: {"train": {"steps": 1}} gives {"train.steps": 1}."""
    flat: dict[str, Any] = {}
    for name, value in values.items():
        flat |= flatten(value, f"{prefix}{name}.") if isinstance(value, dict) else {f"{prefix}{name}": value}
    return flat


def doctor_tags(verdict: str, sentence: str) -> dict[str, str]:
    """Return the tags of a run that hold the doctor's verdict."""
    return {"doctor.verdict": verdict, "doctor.sentence": sentence}
