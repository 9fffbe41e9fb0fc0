"""The door to MLflow's model registry: its versions, and what a run keeps of them."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import mlflow
import pandas as pd
from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.models import ModelSignature
from mlflow.types import ColSpec, DataType, Schema

from mlops.project.errors import UserError
from mlops.promotion.history import ModelId
from mlops.tracking.runs import KEY_TAG

CHAMPION = "champion"
WEIGHTS_TAG, PASSPORT_TAG = "generator.sha256", "passport"
ROOT = Path(__file__).resolve().parents[2]
REQUIREMENTS = ("torch", "numpy", "safetensors", "pandas", "pillow", "mlflow")
SIGNATURE = ModelSignature(
    inputs=Schema(
        [
            ColSpec(DataType.long, "seed"),
            ColSpec(DataType.long, "count", required=False),
            ColSpec(DataType.long, "first", required=False),
            ColSpec(DataType.double, "truncation", required=False),
        ]
    ),
    outputs=Schema([ColSpec(DataType.long, "seed"), ColSpec(DataType.long, "number"), ColSpec(DataType.binary, "png")]),
)


def find_version(client: MlflowClient, name: str, run_id: str, weights_sha256: str) -> ModelVersion | None:
    """Return the version that holds these weights and comes from this run."""
    for found in client.search_model_versions(f"name = '{name}' and run_id = '{run_id}'"):
        if found.tags.get(WEIGHTS_TAG) == weights_sha256:
            return found
    return None


def add_version(name: str, run_id: str, generator: Path, tags: dict[str, str]) -> ModelVersion:
    """Log the generator as a model of its run and register it.

    Args:
        name: of the registered model.
        run_id: of the training.
        generator: safetensors.
        tags: of the new version.

    Returns:
        The new version.
    """
    with mlflow.start_run(run_id=run_id):
        model = mlflow.pyfunc.log_model(
            name="generator",
            python_model=str(Path(__file__).with_name("served_model.py")),
            artifacts={"generator": str(generator)},
            code_paths=[str(ROOT / "gan_core")],
            pip_requirements=[f"{package}=={version(package)}" for package in REQUIREMENTS],
            signature=SIGNATURE,
            input_example=pd.DataFrame({"seed": [0, 1], "count": [1, 2]}),
        )
    return mlflow.register_model(model.model_uri, name, tags=tags)


def named_version(client: MlflowClient, name: str, which: str) -> ModelVersion:
    """Return the version of a registered model that a number or an alias names.

    Args:
        client: of the tracking store.
        name: of the registered model.
        which: number or alias.

    Returns:
        The version.

    Raises:
        UserError: there is none.
    """
    try:
        by_name = client.get_model_version if which.isdigit() else client.get_model_version_by_alias
        return by_name(name, which)
    except MlflowException:
        known = sorted(int(found.version) for found in client.search_model_versions(f"name = '{name}'"))
        raise UserError(
            f"MLflow has no {name} {which} (versions there: {', '.join(map(str, known)) or 'none'}; store: "
            f"{mlflow.get_tracking_uri()}); name another, or set MLFLOW_TRACKING_URI to the store that has it"
        ) from None


def versions(client: MlflowClient, name: str) -> dict[str, dict[str, str]]:
    """Return the tags of all versions of a registered model by their numbers, the newest first."""
    found = {str(item.version): dict(item.tags) for item in client.search_model_versions(f"name = '{name}'")}
    return dict(sorted(found.items(), key=lambda item: -int(item[0])))


def number_of(who: ModelId | None, found: dict[str, dict[str, str]]) -> str | None:
    """Return the newest version with these weights and scores, else the newest with these weights, if there is one."""
    if who is None:
        return None
    held = [number for number, tags in found.items() if tags.get(WEIGHTS_TAG) == who.weights]
    exact = [number for number in held if found[number].get(PASSPORT_TAG) == who.passport]
    return next(iter([*exact, *held]), None)


def identity(name: str, number: int, found: dict[str, dict[str, str]]) -> ModelId:
    """Return whom a version holds.

    Args:
        name: of the registered model.
        number: of the version.
        found: its `versions`.

    Returns:
        Its identity.

    Raises:
        UserError: there is no such version, or it was not made by `register`.
    """
    if str(number) not in found:
        known = ", ".join(sorted(found, key=int)) or "none"
        raise UserError(f"{name} has no version {number}; its versions are: {known}")
    tags = found[str(number)]
    if missing := [tag for tag in (WEIGHTS_TAG, PASSPORT_TAG) if tag not in tags]:
        raise UserError(
            f"version {number} of {name} has no tag {' and no tag '.join(missing)}, so nobody knows what it holds; "
            "choose one that dvc repro register has made"
        )
    return ModelId(tags[WEIGHTS_TAG], tags[PASSPORT_TAG], tags.get(KEY_TAG, ""))


def champion(client: MlflowClient, name: str) -> str | None:
    """Return the version that bears the alias `champion`, if any does."""
    models = client.search_registered_models(f"name = '{name}'")
    return str(models[0].aliases[CHAMPION]) if models and CHAMPION in models[0].aliases else None


@dataclass(frozen=True)
class Found:
    """A model as MLflow knows it; `version` is None for a run that was never registered."""

    run_id: str
    run_name: str
    version: str | None
    aliases: tuple[str, ...]
    tags: dict[str, str]
    params: dict[str, str]


def find_model(client: MlflowClient, name: str, wanted: str) -> Found:
    """Return the model that a person means.

    Args:
        client: of the tracking store.
        name: of the registered model.
        wanted: the number of a version, an alias, or the id of a run.

    Returns:
        The model, and the parameters and tags of its run.

    Raises:
        UserError: there is none.
    """
    if not re.fullmatch("[0-9a-f]{32}", wanted):
        registered = named_version(client, name, wanted)
        return _found(client.get_run(registered.run_id or ""), str(registered.version), tuple(registered.aliases))
    try:
        return _found(client.get_run(wanted), None, ())
    except MlflowException as error:
        raise UserError(f"MLflow has no run {wanted}: {error.message}; name another, or a version of {name}") from None


def _found(run: Run, version: str | None, aliases: tuple[str, ...]) -> Found:
    return Found(run.info.run_id, run.info.run_name, version, aliases, dict(run.data.tags), dict(run.data.params))


def fetch_evaluation(client: MlflowClient, found: Found, names: Iterable[str], target: Path) -> Path:
    """Copy files that `register` has put into a run to a folder.

    Args:
        client: of the tracking store.
        found: the model.
        names: of files that `evaluate` wrote.
        target: an existing folder.

    Returns:
        The folder below it with the files.

    Raises:
        UserError: the run lacks one of them, or they cannot be downloaded.
    """
    there = {Path(file.path).name for file in client.list_artifacts(found.run_id, "evaluation")}
    missing = [name for name in names if name not in there]
    if missing:
        raise UserError(
            f"run {found.run_name} ({found.run_id}) has no {', '.join(missing)}: it was not scored, or by an older "
            "version of this project; run dvc repro with its params.yaml, which registers it with scores and intervals"
        )
    try:
        return Path(client.download_artifacts(found.run_id, "evaluation", str(target)))
    except (MlflowException, OSError) as error:
        raise UserError(f"run {found.run_name} ({found.run_id}): its files cannot be downloaded: {error}") from None
