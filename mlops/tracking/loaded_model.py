"""A version of the registered model, ready to generate: the second half of the door to MLflow's model registry.

It is not in `registry.py`, because DVC watches that for the stage `register`, which generating has nothing to do with.
"""

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import cast

import mlflow
import pandas as pd
from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.pyfunc import PyFuncModel

from mlops.project.errors import UserError
from mlops.project.identity import file_digest
from mlops.tracking.versions import CHAMPION, WEIGHTS_TAG


def version_at(client: MlflowClient, address: str) -> ModelVersion:
    """Return the version that an address names.

    Args:
        client: of the registry.
        address: `models:/NAME@ALIAS` or `models:/NAME/VERSION`.

    Returns:
        The version.

    Raises:
        UserError: the address has another form, or nothing is registered there.
    """
    found = re.fullmatch(r"models:/([^/@]+)(?:@([^/@]+)|/(\d+))", address)
    if found is None:
        raise UserError(f"{address} names no registered model; write models:/NAME@ALIAS or models:/NAME/VERSION")
    name, alias, number = found.groups()
    try:
        return client.get_model_version_by_alias(name, alias) if alias else client.get_model_version(name, number)
    except MlflowException as error:
        said = str(error.message).rstrip(".")
        raise UserError(
            f"{address}: {said}; `make run` registers a model and calls the first good one `{CHAMPION}`, MLflow's page "
            "of a model sets other aliases, and MLFLOW_TRACKING_URI names another store"
        ) from None


def load_version(found: ModelVersion) -> tuple[PyFuncModel, str]:
    """Return a version, ready to generate with the code that was registered with it, and the sha256 of its weights.

    Args:
        found: the version.

    Returns:
        The model, and 64 hexadecimal digits.

    Raises:
        UserError: the files are gone, or the weights are not those that were registered.
    """
    address = f"models:/{found.name}/{found.version}"
    remedy = "delete this version in MLflow and run `dvc repro --force register`, or name another"
    with TemporaryDirectory() as folder, _code_of_the_model():
        try:
            local = mlflow.artifacts.download_artifacts(artifact_uri=address, dst_path=folder)
        except (MlflowException, OSError) as error:
            raise UserError(f"{address}: its files cannot be read: {error}; {remedy}") from None
        python_function = mlflow.models.Model.load(local).flavors["python_function"]
        sha256 = file_digest(Path(local) / python_function["artifacts"]["generator"]["path"])
        if found.tags.get(WEIGHTS_TAG, sha256) != sha256:
            raise UserError(f"{address}: its weights are not those that were registered; {remedy}")
        return mlflow.pyfunc.load_model(local), sha256


def generated(model: PyFuncModel, rows: pd.DataFrame) -> pd.DataFrame:
    """Return what a registered model makes of rows: columns `seed`, `number` and `png`.

    Args:
        model: from `load_version`.
        rows: as `mlops.tracking.served_model` reads them.

    Returns:
        One row for each image.

    Raises:
        UserError: the model refuses a value, or is so old that it does not know a column.
    """
    # MLflow drops columns that a model does not know, and would make other images than those asked for.
    unknown = sorted(set(rows.columns) - set(model.metadata.get_input_schema().input_names()))
    if unknown:
        raise UserError(
            f"this version of the model comes from older code, which knows no {', '.join(unknown)}; `make run` "
            "registers a new one: name it, or give it the alias on MLflow's page of the model"
        )
    try:
        return cast(pd.DataFrame, model.predict(rows))
    except MlflowException as error:
        raise UserError(error.message) from None


@contextmanager
def _code_of_the_model() -> Iterator[None]:
    """Let a model import the `gan_core` that was registered with it, though this process has another one loaded."""

    def loaded() -> list[str]:
        return [name for name in sys.modules if name.split(".")[0] == "gan_core"]

    ours, path = {name: sys.modules.pop(name) for name in loaded()}, sys.path
    try:
        yield
    finally:
        for name in loaded():
            del sys.modules[name]
        sys.modules.update(ours)
        sys.path = path
