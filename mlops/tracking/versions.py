"""Versions of registered models in MLflow: finding the one that is meant, adding one, reading what its run holds."""

import re
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import mlflow
import pandas as pd
from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.models import ModelSignature
from mlflow.types import ColSpec, DataType, Schema

from mlops.project.code_digest import ROOT
from mlops.project.errors import UserError
from mlops.promotion.history import ModelId
from mlops.tracking.runs import KEY_TAG, artifact_names, fetch_artifacts, real_copy

CHAMPION = "champion"
WEIGHTS_TAG, PASSPORT_TAG = "generator.sha256", "passport"
REQUIREMENTS = ("torch", "numpy", "safetensors", "pandas", "pillow", "mlflow")
SIGNATURE = ModelSignature(
    outputs=Schema(
        [
            ColSpec(DataType.long, "seed"),
            ColSpec(DataType.long, "number"),
            ColSpec(DataType.string, "label", required=False),
            ColSpec(DataType.binary, "png"),
        ]
    )
)
"""Of answers alone: MLflow drops columns that a signature of requests lacks, and other images came than asked for."""


def find_version(client: MlflowClient, name: str, model: str) -> ModelVersion:
    """Return the version that a person names: by number, by alias, as `models:/NAME/VERSION` or `models:/NAME@ALIAS`.

    A number or an alias alone is one of the registered model `name`. If there is no such version, that is a UserError.
    """
    if address := re.fullmatch(r"(?:models:/([^/@']+)[/@])?([^/@']+)", model):
        name, key = address[1] or name, address[2]
        get = client.get_model_version if key.isdecimal() else client.get_model_version_by_alias
        with suppress(MlflowException):
            return get(name, key)
    models = client.search_registered_models(f"name = '{name}'")
    known = [*reversed(versions(client, name)), *(sorted(models[0].aliases) if models else [])]
    raise UserError(
        f"there is no model {model!r} in {mlflow.get_tracking_uri()}; {name} there has "
        f"{', '.join(known) or 'no version, and `make run` registers one'}: give a number, an alias, "
        "models:/NAME/VERSION or models:/NAME@ALIAS, or set MLFLOW_TRACKING_URI to the store that has it"
    )


def registered_version(client: MlflowClient, name: str, run_id: str, weights_sha256: str) -> ModelVersion | None:
    """Return the version that holds these weights and comes from this run, if there is one."""
    of_run = client.search_model_versions(f"name = '{name}' and run_id = '{run_id}'")
    return next((version for version in of_run if version.tags.get(WEIGHTS_TAG) == weights_sha256), None)


def add_version(name: str, run_id: str, generator: Path, tags: dict[str, str]) -> ModelVersion:
    """Log a generator, a safetensors file, as a model of its run, and register it as a version with tags."""
    with mlflow.start_run(run_id=run_id), real_copy(generator) as weights:
        model = mlflow.pyfunc.log_model(
            name="generator",
            python_model=str(Path(__file__).with_name("served_model.py")),
            artifacts={"generator": str(weights)},
            code_paths=[str(ROOT / "gan_core")],
            pip_requirements=[f"{package}=={metadata.version(package)}" for package in REQUIREMENTS],
            signature=SIGNATURE,
            input_example=pd.DataFrame({"seed": [0, 1], "count": [1, 2]}),
        )
    return mlflow.register_model(model.model_uri, name, tags=tags)


def versions(client: MlflowClient, name: str) -> dict[str, dict[str, str]]:
    """Return the tags of all versions of a registered model by their numbers, the newest first."""
    tags = {str(version.version): dict(version.tags) for version in client.search_model_versions(f"name = '{name}'")}
    return dict(sorted(tags.items(), key=lambda item: -int(item[0])))


def number_of(model_id: ModelId | None, tags: dict[str, dict[str, str]]) -> str | None:
    """Return the newest version with these weights and scores, else the newest with these weights, if there is one."""
    if model_id is None:
        return None
    same = [number for number in tags if tags[number].get(WEIGHTS_TAG) == model_id.weights]
    exact = [number for number in same if tags[number].get(PASSPORT_TAG) == model_id.passport]
    return next(iter([*exact, *same]), None)


def model_id(version: ModelVersion) -> ModelId:
    """Return what a version holds, from its tags; if `register` did not make it, that is a UserError."""
    if missing := [tag for tag in (WEIGHTS_TAG, PASSPORT_TAG) if tag not in version.tags]:
        raise UserError(
            f"version {version.version} of {version.name} has no tag {' and no tag '.join(missing)}, so its weights "
            "and scores are unknown; name a version that `dvc repro register` has made"
        )
    return ModelId(version.tags[WEIGHTS_TAG], version.tags[PASSPORT_TAG], version.tags.get(KEY_TAG, ""))


def champion(client: MlflowClient, name: str) -> str | None:
    """Return the number of the version that bears the alias `champion`, if any does."""
    models = client.search_registered_models(f"name = '{name}'")
    return str(models[0].aliases[CHAMPION]) if models and CHAMPION in models[0].aliases else None


@dataclass(frozen=True)
class TrackedModel:
    """A model in MLflow; `version` is None for a run that was never registered, `tags` and `params` are the run's."""

    run_id: str
    run_name: str
    version: str | None
    aliases: tuple[str, ...]
    tags: dict[str, str]
    params: dict[str, str]


def find_model(client: MlflowClient, name: str, model: str) -> TrackedModel:
    """Return the version (as for `find_version`) or the run (by its id, 32 hexadecimal digits) that a person names.

    If there is none, or its run is deleted, that is a UserError.
    """
    version = None if re.fullmatch("[0-9a-f]{32}", model) else find_version(client, name, model)
    run_id = str(version.run_id) if version else model
    try:
        run = client.get_run(run_id)
    except MlflowException as error:
        raise UserError(f"MLflow has no run {run_id}: {error.message}; name another, or a version of {name}") from None
    number, aliases = (str(version.version), tuple(version.aliases)) if version else (None, ())
    return TrackedModel(run_id, run.info.run_name, number, aliases, dict(run.data.tags), dict(run.data.params))


def fetch_evaluation(client: MlflowClient, model: TrackedModel, names: Iterable[str], target: Path) -> Path:
    """Download the files that `register` wrote into a run; return their folder, which is below `target`.

    If the run lacks one of the names, or they cannot be downloaded, that is a UserError.
    """
    if missing := sorted(set(names) - artifact_names(client, model.run_id, "evaluation")):
        raise UserError(
            f"run {model.run_name} ({model.run_id}) has no {', '.join(missing)}: it was not scored, or by an older "
            "version of this project; run dvc repro with its params.yaml, which registers it with scores and intervals"
        )
    return fetch_artifacts(client, model.run_id, "evaluation", target)
