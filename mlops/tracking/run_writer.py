"""Writing a training into its run in MLflow; what is there already is not written again."""

import hashlib
import json
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import pyarrow.parquet as pq
from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, Run, RunTag

from mlops.project.identity import file_digest, identity_tags
from mlops.project.prepared_data import MANIFEST, load_summary
from mlops.project.result_files import SAMPLES, grid_path
from mlops.tracking.runs import DATA_TAG, KEY_TAG, artifact_names, connect, doctor_tags, find_run, flatten, real_copy

if TYPE_CHECKING:  # callers that draw grids import PIL themselves
    from PIL.Image import Image

CURVES = "training/"
"""How metrics that change through training begin: MLflow draws a section of them before those without a slash."""
AT_ONCE = 1000
"""Metrics that MLflow takes in one batch."""


class RunWriter:
    """Writes into one run what is not there yet, so that writing twice changes nothing."""

    def __init__(self, client: MlflowClient, run: Run) -> None:
        self.client, self.run = client, run
        self.id: str = run.info.run_id
        self.read_known()

    def read_known(self) -> None:
        """Read which rows and grids the run has; after an error it is unknown which arrived."""
        steps = self.client.get_metric_history(self.id, f"{CURVES}d_loss")
        self.known_steps = {metric.step for metric in steps}
        self.known_grids = artifact_names(self.client, self.id, SAMPLES)

    def write_params(self, params: dict[str, Any]) -> None:
        """Write missing parameters under their dotted names; MLflow never changes one that it has."""
        missing = {name: value for name, value in flatten(params).items() if name not in self.run.data.params}
        self.client.log_batch(self.id, params=[Param(name, str(value)) for name, value in missing.items()])

    def write_tags(self, tags: dict[str, str]) -> None:
        """Write tags that are missing."""
        missing = {name: value for name, value in tags.items() if name not in self.run.data.tags}
        self.client.log_batch(self.id, tags=[RunTag(name, value) for name, value in missing.items()])

    def set_tags(self, tags: dict[str, str]) -> None:
        """Write tags over those of the same names."""
        self.client.log_batch(self.id, tags=[RunTag(*tag) for tag in tags.items()])

    def write_rows(self, rows: Iterable[dict[str, float]]) -> None:
        """Write missing rows of the history, each number as a metric at the row's step.

        MLflow takes at most 1,000 metrics at once, all or none. A row is never parted: by one of its metrics it counts
        as written.
        """
        now = int(time.time() * 1000)
        batch: list[Metric] = []
        for row in rows:
            if row["step"] in self.known_steps:
                continue
            step = int(row["step"])
            metrics = [Metric(f"{CURVES}{name}", value, now, step) for name, value in row.items() if name != "step"]
            if len(batch) + len(metrics) > AT_ONCE:
                self.client.log_batch(self.id, metrics=batch)
                batch = []
            batch += metrics
        if batch:
            self.client.log_batch(self.id, metrics=batch)

    def write_curve(self, name: str, values: dict[int, float]) -> None:
        """Write a metric's values by step, those that MLflow lacks or has with another value."""
        now, metric = int(time.time() * 1000), f"{CURVES}{name}"
        known = {(point.step, point.value) for point in self.client.get_metric_history(self.id, metric)}
        missing = [Metric(metric, value, now, step) for step, value in values.items() if (step, value) not in known]
        self.client.log_batch(self.id, metrics=missing)

    def write_scores(self, scores: dict[str, float]) -> None:
        """Write final numbers, those that MLflow lacks or has with another value; at step 0 they are drawn as bars."""
        now = int(time.time() * 1000)
        missing = {name: value for name, value in scores.items() if self.run.data.metrics.get(name) != value}
        self.client.log_batch(self.id, metrics=[Metric(name, value, now, 0) for name, value in missing.items()])

    def write_grid(self, picture: "Image", step: int) -> None:
        """Write a missing sample grid; MLflow's own card for images shows all parameters and has no room for them."""
        path = grid_path(Path(SAMPLES), step)
        if path.name not in self.known_grids:
            self.client.log_image(self.id, picture, artifact_file=path.as_posix())

    def write_dataset(self, prepared: Path, md5: str) -> None:
        """Write the prepared data as the run's input, its digest being DVC's md5."""
        if self.run.inputs and self.run.inputs.dataset_inputs:
            return
        # What `mlflow.data.from_pandas` makes, without reading a table that grows with the number of images.
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
        """Write files of a folder as artifacts, unless the same are there."""
        # more replicas change the files, but not the passport
        digests = "".join(file_digest(folder / name) for name in names)
        tags = {"passport": passport, "evaluation.sha256": hashlib.sha256(digests.encode()).hexdigest()}
        gone = set(names) - artifact_names(self.client, self.id, "evaluation")
        if gone or any(self.run.data.tags.get(tag) != value for tag, value in tags.items()):
            self.write_files([folder / name for name in names], "evaluation")
            self.set_tags(tags)

    def write_files(self, paths: Iterable[Path], folder: str | None) -> None:
        """Write files as artifacts in a folder, in their order, over those of the same names."""
        for path in paths:
            with real_copy(path) as copy:
                self.client.log_artifact(self.id, str(copy), folder)

    def write_file(self, content: bytes, path: str) -> None:
        """Write an artifact, unless it is there with the same content."""
        target = Path(path)
        parent = target.parent.as_posix().strip(".")
        present = {file.path for file in self.client.list_artifacts(self.id, parent)}
        with TemporaryDirectory() as folder:
            if path in present and Path(self.client.download_artifacts(self.id, path, folder)).read_bytes() == content:
                return
            file = Path(folder) / target.name
            file.write_bytes(content)
            self.write_files([file], parent or None)

    def write_diagnosis(self, diagnosis: dict[str, Any], picture: Path) -> None:
        """Write the doctor's verdict as tags and as a picture."""
        tags = self.run.data.tags
        new = doctor_tags(diagnosis["verdict"], diagnosis["sentence"]) | {"doctor.picture": file_digest(picture)}
        present = artifact_names(self.client, self.id, "diagnosis")
        if picture.name not in present or tags.get("doctor.picture") != new["doctor.picture"]:
            self.write_files([picture], "diagnosis")
        self.set_tags({name: value for name, value in new.items() if tags.get(name) != value})

    def finish(self) -> None:
        """Mark the run as finished, unless it is."""
        if self.run.info.status != "FINISHED":
            self.client.set_terminated(self.id)


def open_run(
    facts: dict[str, Any], prepared: Path, passport: str | None = None, *, data: str | None = None
) -> RunWriter:
    """Return the writer of a training's run: the present one, else a new one with parameters, tags and data.

    `facts` are key, data_md5, parameters and device, as the stage `train` reports them; `passport` is the sha256 of the
    scores' passport once the training has ended, and None for one that begins. It goes on in a run that was stopped or
    that has no scores: if DVC died before it recorded a finished training, the same one is trained again. Name and tags
    of the run have `data`, by default the name of the prepared images, which is `folder` for everybody's own.
    """
    client, experiment = connect()
    run = find_run(client, experiment, facts["key"], passport)
    prepared_name = load_summary(prepared).name
    data = data or prepared_name
    name = _run_name(facts, data)
    if run is None or (run.info.status == "FINISHED" and passport is None and "passport" in run.data.tags):
        run = client.create_run(experiment, run_name=name, tags={KEY_TAG: facts["key"]})
    elif name != run.info.run_name == _run_name(facts, prepared_name):  # named when it began, and by nobody since
        client.update_run(run.info.run_id, name=name)
        client.set_tag(run.info.run_id, DATA_TAG, data)
        run = client.get_run(run.info.run_id)
    writer = RunWriter(client, run)
    writer.write_params(facts["parameters"])
    known = {DATA_TAG: data, "data.dvc_md5": facts["data_md5"]}
    writer.write_tags(known | {"device": facts["device"]} | identity_tags())
    writer.write_dataset(prepared, facts["data_md5"])
    return writer


def _run_name(facts: dict[str, Any], data: str) -> str:
    """Return a name whose beginning, all that MLflow's list has room for, tells runs apart."""
    network, train = facts["parameters"]["network"], facts["parameters"]["train"]
    augmentation = facts["parameters"]["augmentation"]["kind"]
    more = " by class" * network["conditional"] + f" {augmentation}" * (augmentation != "none")
    return f"{train['loss']} {train['steps']} s{train['seed']} {network['family']}{more} {data} {facts['key'][:4]}"
