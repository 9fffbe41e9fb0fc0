"""The door to MLflow's model registry: versions, and the alias of the best one."""

from importlib.metadata import version
from pathlib import Path

import mlflow
import pandas as pd
from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.models import ModelSignature
from mlflow.types import ColSpec, DataType, Schema

from stages.errors import StageError

CHAMPION = "champion"
WEIGHTS_TAG = "generator.sha256"
HERE = Path(__file__).resolve().parent
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
            python_model=str(HERE / "served_model.py"),
            artifacts={"generator": str(generator)},
            code_paths=[str(HERE.parent / "gan_core")],
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
        StageError: there is none.
    """
    try:
        by_name = client.get_model_version if which.isdigit() else client.get_model_version_by_alias
        return by_name(name, which)
    except MlflowException:
        known = sorted(int(found.version) for found in client.search_model_versions(f"name = '{name}'"))
        raise StageError(
            f"MLflow has no {name} {which} (versions there: {', '.join(map(str, known)) or 'none'}; store: "
            f"{mlflow.get_tracking_uri()}); name another, or set MLFLOW_TRACKING_URI to the store that has it"
        ) from None


def champion(client: MlflowClient, name: str) -> str | None:
    """Return the version that bears the alias `champion`, if any does."""
    try:
        return str(client.get_model_version_by_alias(name, CHAMPION).version)
    except MlflowException:
        return None


def crown(client: MlflowClient, name: str, number: str) -> None:
    """Give the alias `champion` to a version."""
    client.set_registered_model_alias(name, CHAMPION, number)
