import sys
from pathlib import Path

import pandas as pd
import pytest
from mlflow.types import ColSpec, DataType, Schema

import gan_core.generation.latents
from mlops.project.errors import UserError
from mlops.tracking.loaded_model import generated, load_version
from mlops.tracking.runs import connect
from mlops.tracking.versions import WEIGHTS_TAG, find_version


def test_a_version_generates_with_the_code_that_was_registered_with_it(
    root: Path, registered: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def changed(*_: object) -> None:
        raise AssertionError("the working tree's code was used")

    monkeypatch.setattr(gan_core.generation.latents, "draw_z", changed)
    client, _ = connect()
    before = gan_core.generation.latents, list(sys.path)
    model, _ = load_version(find_version(client, registered["normal"], "champion"))
    assert len(generated(model, pd.DataFrame({"seed": [1, 2], "count": [2, 1]}))) == 3
    assert (sys.modules["gan_core.generation.latents"], sys.path) == before


def test_weights_that_were_exchanged_are_refused(root: Path, registered: dict[str, str]) -> None:
    client, _ = connect()
    version = find_version(client, registered["normal"], "1")
    version.tags[WEIGHTS_TAG] = "0" * 64
    with pytest.raises(UserError, match=r"models:/fresh-normal/1: .*weights"):
        load_version(version)


def test_lost_files_are_named(root: Path, registered: dict[str, str]) -> None:
    client, _ = connect()
    version = find_version(client, registered["normal"], "1")
    version._version = "7"
    with pytest.raises(UserError, match=r"models:/fresh-normal/7: .*`dvc repro --force --single-item register`"):
        load_version(version)


def test_a_version_of_older_code_does_not_give_other_images_than_asked(root: Path, registered: dict[str, str]) -> None:
    client, _ = connect()
    model, _ = load_version(find_version(client, registered["normal"], "champion"))
    model.metadata.signature.inputs = Schema([ColSpec(DataType.long, "seed")])
    with pytest.raises(UserError, match="count, first"):
        generated(model, pd.DataFrame({"seed": [1], "count": [1], "first": [4]}))
