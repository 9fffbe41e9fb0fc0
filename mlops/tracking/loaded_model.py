"""A version of the registered model, loaded to generate: its weights, under their sum, by the code of this project.

MLflow would run the code beside the weights, and unpickle what `MLmodel` asks for: whoever can write into an artifact
store would run code on every machine that generates.
"""

from pathlib import Path
from tempfile import TemporaryDirectory

import mlflow
import pandas as pd
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.pyfunc.model import PythonModelContext
from safetensors import SafetensorError

from mlops.project.errors import UserError
from mlops.project.identity import file_digest
from mlops.tracking.served_model import ServedGenerator
from mlops.tracking.versions import WEIGHTS_TAG

REMEDY = "delete this version in MLflow and run `dvc repro --force --single-item register`, or name another"


def load_version(version: ModelVersion) -> tuple[ServedGenerator, str]:
    """Return the generator of a version, and the sha256 of its weights.

    If files are gone, the weights are not those that were registered, or this project's code does not fit them, that is
    a UserError.
    """
    served = ServedGenerator()
    with TemporaryDirectory() as folder:
        generator = fetch_generator(version, Path(folder))
        try:
            served.load_context(PythonModelContext({"generator": str(generator)}, None))
        except (SafetensorError, LookupError, TypeError, ValueError, RuntimeError) as error:
            raise UserError(
                f"{_address(version)}: its weights do not fit this code ({error}); check out the commit that its run "
                "in MLflow names, or name another version"
            ) from None
        return served, file_digest(generator)


def fetch_generator(version: ModelVersion, folder: Path) -> Path:
    """Download a version into a folder and return the place of its weights; errors are as of the above."""
    address = _address(version)
    try:
        local = Path(mlflow.artifacts.download_artifacts(artifact_uri=address, dst_path=str(folder)))
        python_function = mlflow.models.Model.load(str(local)).flavors["python_function"]
        generator = Path(local, python_function["artifacts"]["generator"]["path"])
        sha256 = file_digest(generator)
    except (MlflowException, OSError, LookupError, TypeError) as error:
        raise UserError(f"{address}: its files cannot be read: {error}; {REMEDY}") from None
    if version.tags.get(WEIGHTS_TAG, sha256) != sha256:
        raise UserError(f"{address}: its weights are not those that were registered; {REMEDY}")
    return generator


def _address(version: ModelVersion) -> str:
    return f"models:/{version.name}/{version.version}"


def generated(model: ServedGenerator, rows: pd.DataFrame) -> pd.DataFrame:
    """Return what a model generates from rows as `served_model` reads them: columns `seed`, `number` and `png`.

    A value that the model refuses is a UserError.
    """
    try:
        return model.predict(None, rows)
    except MlflowException as error:
        raise UserError(error.message) from None
