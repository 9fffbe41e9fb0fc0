from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import mlflow
import pandas as pd
import pytest

import gan_core.generation.generator_file
from mlops.project.errors import UserError
from mlops.tracking.loaded_model import generated, load_version
from mlops.tracking.runs import connect
from mlops.tracking.versions import WEIGHTS_TAG, find_version


def pickled(model: Path, made: Path) -> None:
    """Let MLflow's file name a pickle."""
    payload = f"cos\nmkdir\n(V{made}\ntR.".encode()
    (model / "python_model.pkl").write_bytes(payload)
    described = mlflow.models.Model.load(str(model)).to_dict()
    described["flavors"]["python_function"].pop("model_code_path")
    described["flavors"]["python_function"] |= {"python_model": "python_model.pkl"}
    mlflow.models.Model.from_dict(described).save(str(model / "MLmodel"))


def appended(model: Path, made: Path) -> None:
    """Append a line to the code that MLflow runs."""
    with (model / "served_model.py").open("a") as code:
        code.write(f"\nPath({str(made)!r}).mkdir()\n")


@pytest.mark.parametrize("change", [pickled, appended])
def test_nothing_of_an_artifact_store_runs(
    change: Callable[[Path, Path], None],
    root: Path,
    registered: dict[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    client, _ = connect()
    version = find_version(client, registered["normal"], "champion")
    download, made = mlflow.artifacts.download_artifacts, tmp_path / "made"

    def strange(artifact_uri: str, dst_path: str) -> str:
        local = download(artifact_uri, dst_path=dst_path)
        change(Path(local), made)
        return local

    monkeypatch.setattr(mlflow.artifacts, "download_artifacts", strange)
    model, _ = load_version(version)
    assert len(generated(model, pd.DataFrame({"seed": [1, 2], "count": [2, 1]}))) == 3
    assert not made.exists()
    with suppress(AttributeError):  # what the pickle makes is no model
        mlflow.pyfunc.load_model(strange(f"models:/{version.name}/{version.version}", str(tmp_path)))
    assert made.exists()


def test_weights_that_were_exchanged_are_refused(root: Path, registered: dict[str, str]) -> None:
    client, _ = connect()
    version = find_version(client, registered["normal"], "1")
    version.tags[WEIGHTS_TAG] = "0" * 64
    with pytest.raises(UserError, match=r"models:/fresh-normal/1: .*weights"):
        load_version(version)


def test_weights_that_the_code_does_not_fit_are_refused(
    root: Path, registered: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    client, _ = connect()
    monkeypatch.setattr(gan_core.generation.generator_file, "FAMILIES", ())
    with pytest.raises(UserError, match=r"models:/fresh-normal/1: .* do not fit this code .*commit"):
        load_version(find_version(client, registered["normal"], "1"))


def test_lost_files_are_named(root: Path, registered: dict[str, str]) -> None:
    client, _ = connect()
    version = find_version(client, registered["normal"], "1")
    version._version = "7"
    with pytest.raises(UserError, match=r"models:/fresh-normal/7: .*`dvc repro --force --single-item register`"):
        load_version(version)
