"""The door to MLflow's runs. What is in MLflow can be rebuilt from DVC's outputs; training also logs while it runs."""

import hashlib
import json
import os
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Self

import mlflow
import pyarrow.parquet as pq
from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, Run, RunStatus, RunTag
from mlflow.exceptions import MlflowException

from mlops.project.errors import UserError
from mlops.project.identity import file_digest, identity_tags, project_root
from mlops.project.prepared_data import MANIFEST, load_summary

if TYPE_CHECKING:  # pictures come from those who draw them; promoting and rebuilding need none
    from PIL.Image import Image

EXPERIMENT = "gan-training"
KEY_TAG = "training.key"
GRID_KEY = "samples"
NOTE = "mlflow.note.content"
"""Tag of a run's description in MLflow."""
FLUSH_EVERY = 2.0
"""Seconds between two writes of buffered metrics, at least: one costs as much as hundreds of metrics in it."""


def connect() -> tuple[MlflowClient, str]:
    """Return a client and the experiment's id; both tracking store and experiment are made where they are missing.

    The store is MLFLOW_TRACKING_URI, or SQLite and a folder in `.mlflow/` of the project.

    Returns:
        The client, and the id of the experiment `gan-training`.

    Raises:
        UserError: the tracking server does not answer, is of a kind that MLflow refuses, or lost the experiment.
    """
    home = project_root() / ".mlflow"
    home.mkdir(exist_ok=True)
    uri = os.environ.get("MLFLOW_TRACKING_URI", f"sqlite:///{home / 'mlflow.db'}")
    mlflow.set_tracking_uri(uri)
    local = None if uri.startswith("http") else (home / "artifacts").as_uri()
    try:
        client = MlflowClient()
        experiment = client.get_experiment_by_name(EXPERIMENT)
        if experiment is not None:
            if experiment.lifecycle_stage == "deleted":
                client.restore_experiment(experiment.experiment_id)
            return client, experiment.experiment_id
        # Where MLflow's page has no switch for it, this tag opens the experiment on its training runs.
        tags = {"mlflow.experimentKind": "custom_model_development"}
        return client, client.create_experiment(EXPERIMENT, artifact_location=local, tags=tags)
    except MlflowException as error:
        raise UserError(f"MLFLOW_TRACKING_URI={uri}: {error}; start the server or unset the variable") from None


def find_run(client: MlflowClient, experiment: str, key: str, passport: str | None = None) -> Run | None:
    """Return the newest run of a training, by its key.

    Args:
        client: of the tracking store.
        experiment: its id.
        key: of the training.
        passport: sha256 of a passport; runs whose scores have another one are passed over, for no run may hold scores
            that cannot be compared. A run with this one comes before a run without scores.

    Returns:
        The run, if there is one.
    """
    found = client.search_runs([experiment], f"tags.`{KEY_TAG}` = '{key}'", order_by=["start_time DESC"])
    if passport is None:
        return found[0] if found else None
    by_passport = {run.data.tags.get("passport"): run for run in reversed(found)}
    return by_passport.get(passport) or by_passport.get(None)


def flatten(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested values by dotted names: {"train": {"steps": 1}} gives {"train.steps": 1}."""
    flat: dict[str, Any] = {}
    for name, value in values.items():
        flat |= flatten(value, f"{prefix}{name}.") if isinstance(value, dict) else {f"{prefix}{name}": value}
    return flat


def doctor_tags(verdict: str, sentence: str) -> dict[str, str]:
    """Return the tags by which a run says what the doctor said."""
    return {"doctor.verdict": verdict, "doctor.sentence": sentence}


class RunWriter:
    """Writes into one run what is not there yet, so that writing twice changes nothing."""

    def __init__(self, client: MlflowClient, run: Run) -> None:
        self.client, self.run = client, run
        self.id: str = run.info.run_id
        steps = client.get_metric_history(self.id, "d_loss")
        self.known_steps = {metric.step for metric in steps}
        images = client.list_artifacts(self.id, "images")
        self.known_grids = {int(image.path.split("+step+")[1].split("+")[0]) for image in images}

    def write_params(self, params: dict[str, Any]) -> None:
        """Write parameters under their dotted names; MLflow never changes one that stands."""
        missing = {name: value for name, value in flatten(params).items() if name not in self.run.data.params}
        self.client.log_batch(self.id, params=[Param(name, str(value)) for name, value in missing.items()])

    def write_tags(self, tags: dict[str, str]) -> None:
        """Write tags that are not there yet."""
        missing = {name: value for name, value in tags.items() if name not in self.run.data.tags}
        self.client.log_batch(self.id, tags=[RunTag(name, value) for name, value in missing.items()])

    def set_tags(self, tags: dict[str, str]) -> None:
        """Write tags, in place of those of the same names."""
        self.client.log_batch(self.id, tags=[RunTag(*tag) for tag in tags.items()])

    def write_rows(self, rows: Iterable[dict[str, float]]) -> None:
        """Write rows of the history, each number as a metric at the row's step."""
        now = int(time.time() * 1000)
        metrics = [
            Metric(name, value, now, int(row["step"]))
            for row in rows
            if row["step"] not in self.known_steps
            for name, value in row.items()
            if name != "step"
        ]
        for start in range(0, len(metrics), 1000):
            self.client.log_batch(self.id, metrics=metrics[start : start + 1000])

    def write_scores(self, scores: dict[str, float], step: int) -> None:
        """Write final numbers at a step; a number that stands is written again only if it is another."""
        now = int(time.time() * 1000)
        missing = {name: value for name, value in scores.items() if self.run.data.metrics.get(name) != value}
        self.client.log_batch(self.id, metrics=[Metric(name, value, now, step) for name, value in missing.items()])

    def write_grid(self, picture: "Image", step: int) -> None:
        """Write a sample grid under the key whose steps the UI shows with a slider."""
        if step not in self.known_grids:
            self.client.log_image(self.id, picture, key=GRID_KEY, step=step)

    def write_dataset(self, prepared: Path, md5: str) -> None:
        """Write the prepared data as the run's input, its digest being DVC's md5."""
        if self.run.inputs and self.run.inputs.dataset_inputs:
            return
        # What `mlflow.data.from_pandas` would say, without reading a table that grows with the number of images.
        with pq.ParquetFile(prepared / MANIFEST) as manifest:
            rows, fields = manifest.metadata.num_rows, manifest.schema_arrow
        kinds = {"int64": "long", "large_string": "string"}
        schema = [{"type": kinds[str(field.type)], "name": field.name, "required": False} for field in fields]
        entity = Dataset(
            name=load_summary(prepared).name,
            digest=md5,
            source_type="local",
            source=json.dumps({"uri": str(prepared)}),
            schema=json.dumps({"mlflow_colspec": schema}),
            profile=json.dumps({"num_rows": rows, "num_elements": rows * len(schema)}),
        )
        self.client.log_inputs(self.id, [DatasetInput(entity, [InputTag("mlflow.data.context", "training")])])

    def write_evaluation(self, folder: Path, passport: str, names: Sequence[str]) -> None:
        """Write files of a folder as artifacts, unless the same are there; more trainings change no passport."""
        digests = "".join(file_digest(folder / name) for name in names)
        said = {"passport": passport, "evaluation.sha256": hashlib.sha256(digests.encode()).hexdigest()}
        if any(self.run.data.tags.get(tag) != value for tag, value in said.items()):
            for name in names:
                self.client.log_artifact(self.id, str(folder / name), "evaluation")
            self.set_tags(said)

    def write_file(self, content: bytes, path: str) -> None:
        """Write an artifact, unless it is there with the same content."""
        place = Path(path)
        with TemporaryDirectory() as folder:
            if path in {file.path for file in self.client.list_artifacts(self.id, place.parent.as_posix().strip("."))}:
                there = Path(self.client.download_artifacts(self.id, path, folder))
                if there.read_bytes() == content:
                    return
            file = Path(folder) / place.name
            file.write_bytes(content)
            self.client.log_artifact(self.id, str(file), place.parent.as_posix().strip(".") or None)

    def write_diagnosis(self, diagnosis: dict[str, Any], picture: Path) -> None:
        """Write what the doctor said as tags, as a picture and, unless a person wrote one, as the description."""
        tags = self.run.data.tags
        said = doctor_tags(diagnosis["verdict"], diagnosis["sentence"]) | {"doctor.picture": file_digest(picture)}
        if tags.get("doctor.picture") != said["doctor.picture"]:
            self.client.log_artifact(self.id, str(picture), "diagnosis")
        if tags.get(NOTE) in (None, "", tags.get("doctor.sentence")):
            said |= {NOTE: diagnosis["sentence"]}
        self.set_tags({name: value for name, value in said.items() if tags.get(name) != value})

    def tags(self) -> dict[str, str]:
        """Return the run's tags as they are now."""
        tags: dict[str, str] = self.client.get_run(self.id).data.tags
        return tags

    def artifacts(self, folder: str) -> set[str]:
        """Return the names of the run's artifacts in a folder."""
        return {Path(found.path).name for found in self.client.list_artifacts(self.id, folder)}

    def write_artifacts(self, paths: Iterable[Path], folder: str) -> None:
        """Write files as artifacts into a folder, in the order given."""
        for path in paths:
            self.client.log_artifact(self.id, str(path), folder)

    def finish(self) -> None:
        """Mark the run as finished, unless it is."""
        if self.run.info.status != "FINISHED":
            self.client.set_terminated(self.id)


def open_run(facts: dict[str, Any], prepared: Path, passport: str | None = None) -> RunWriter:
    """Return the writer of a training's run: the one that is there, else a new one with parameters, tags and data.

    Args:
        facts: key, data_md5, parameters and device, as the stage `train` reports them.
        prepared: what `prepare` wrote.
        passport: sha256 of the scores' passport where the training is over; a training that begins has none, and goes
            on in no run that finished.

    Returns:
        A writer into a run.
    """
    client, experiment = connect()
    run = find_run(client, experiment, facts["key"], passport)
    if run is None or (run.info.status == "FINISHED" and passport is None):
        run = client.create_run(experiment, run_name=_run_name(facts), tags={KEY_TAG: facts["key"]})
    writer = RunWriter(client, run)
    writer.write_params(facts["parameters"])
    writer.write_tags({"device": facts["device"], "data.dvc_md5": facts["data_md5"]} | identity_tags())
    writer.write_dataset(prepared, facts["data_md5"])
    return writer


def _run_name(facts: dict[str, Any]) -> str:
    network, train = facts["parameters"]["network"], facts["parameters"]["train"]
    return f"{network['family']}-{train['loss']}-{facts['key'][:6]}"


class LiveRun:
    """A training's run while it trains: metrics in batches, grids, system metrics, and how it ended."""

    def __init__(self, facts: dict[str, Any], prepared: Path) -> None:
        # Only here: it brings the library that asks GPUs, and no other use of MLflow watches the machine.
        from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

        self.writer = open_run(facts, prepared)
        self.rows: list[dict[str, float]] = []
        self.lost = False
        self.flushed, self.cost = time.monotonic(), 0.0
        self.monitor = SystemMetricsMonitor(self.writer.id, sampling_interval=5, resume_logging=True)

    def __enter__(self) -> Self:
        self.writer.client.update_run(self.writer.id, status="RUNNING")
        self.monitor.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._flush()
        self.monitor.finish()
        stopped = kind is not None and not issubclass(kind, Exception)
        status = RunStatus.KILLED if stopped else RunStatus.FAILED if kind else RunStatus.FINISHED
        self._try(lambda: self.writer.client.set_terminated(self.writer.id, RunStatus.to_string(status)))

    def log_row(self, row: dict[str, float]) -> None:
        """Take a row of the history; `flush` writes it."""
        self.rows.append(row)

    def flush(self) -> None:
        """Write the rows that were taken, if the last time is seconds ago: at most a hundredth of all time goes by."""
        now = time.monotonic()
        if now - self.flushed > max(FLUSH_EVERY, 100 * self.cost):
            self._flush()
            self.cost = time.monotonic() - now

    def log_grid(self, picture: "Image", step: int) -> None:
        """Write a sample grid."""
        self._try(lambda: self.writer.write_grid(picture, step))

    def log_tags(self, tags: dict[str, str]) -> None:
        """Write tags, in place of those of the same names."""
        self._try(lambda: self.writer.set_tags(tags))

    def _flush(self) -> None:
        rows, self.rows, self.flushed = self.rows, [], time.monotonic()
        self._try(lambda: self.writer.write_rows(rows))

    def _try(self, write: Callable[[], None]) -> None:
        """Write, or say once that MLflow is gone and train on: `register` fills in what is missing."""
        if self.lost:
            return
        try:
            write()
        except MlflowException as error:
            self.lost = True
            print(f"warning: MLflow does not answer, so training goes on without it: {error}", file=sys.stderr)
