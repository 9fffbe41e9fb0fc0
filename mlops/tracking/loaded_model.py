"""A version of the registered model, loaded to generate with the code that was registered with it."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import cast

import mlflow
import pandas as pd
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.pyfunc import PyFuncModel

from mlops.project.errors import UserError
from mlops.project.identity import file_digest
from mlops.tracking.versions import WEIGHTS_TAG


def load_version(version: ModelVersion) -> tuple[PyFuncModel, str]:
    """Return a version, loaded with the code that was registered with it, and the sha256 of its weights.

    If files are gone, or the weights are not those that were registered, that is a UserError.
    """
    with TemporaryDirectory() as folder, _code_of_the_model():
        local, generator = _downloaded(version, folder)
        return mlflow.pyfunc.load_model(str(local)), file_digest(generator)


def fetch_generator(version: ModelVersion, folder: Path) -> Path:
    """Download a version into a folder and return the place of its generator's file; errors are as of the above."""
    return _downloaded(version, str(folder))[1]


def _downloaded(version: ModelVersion, folder: str) -> tuple[Path, Path]:
    """Return where the model of a version is, below a folder, and its weights, which are as they were registered."""
    address = f"models:/{version.name}/{version.version}"
    remedy = "delete this version in MLflow and run `dvc repro --force --single-item register`, or name another"
    try:
        local = Path(mlflow.artifacts.download_artifacts(artifact_uri=address, dst_path=folder))
    except (MlflowException, OSError) as error:
        raise UserError(f"{address}: its files cannot be read: {error}; {remedy}") from None
    python_function = mlflow.models.Model.load(str(local)).flavors["python_function"]
    generator = local / python_function["artifacts"]["generator"]["path"]
    sha256 = file_digest(generator)
    if version.tags.get(WEIGHTS_TAG, sha256) != sha256:
        raise UserError(f"{address}: its weights are not those that were registered; {remedy}")
    return local, generator


def generated(model: PyFuncModel, rows: pd.DataFrame) -> pd.DataFrame:
    """Return what a model generates from rows as `served_model` reads them: columns `seed`, `number` and `png`.

    If the model refuses a value, or is older than a column, that is a UserError.
    """
    # MLflow drops columns that a signature lacks, and would return other images than those asked for.
    unknown = sorted(set(rows.columns) - set(model.metadata.get_input_schema().input_names()))
    if unknown:
        raise UserError(
            f"this version of the model has older code, without {', '.join(unknown)}; `make run` "
            "registers a new one: name it, or give it the alias on MLflow's page of the model"
        )
    try:
        return cast(pd.DataFrame, model.predict(rows))
    except MlflowException as error:
        raise UserError(error.message) from None


@contextmanager
def _code_of_the_model() -> Iterator[None]:
    """Make a model import the `gan_core` that was registered with it, though this process has loaded another."""

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
