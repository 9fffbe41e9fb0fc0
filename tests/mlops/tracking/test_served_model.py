import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from mlflow.exceptions import MlflowException
from mlflow.pyfunc.model import PythonModelContext
from PIL import Image

from gan_core.config import MlpConfig
from gan_core.generation.generate import generate
from gan_core.generation.generator_file import save_generator
from gan_core.generation.latents import z_bank
from gan_core.networks.build import build_generator
from mlops.tracking.served_model import MOST_IMAGES, ServedGenerator

NETWORK = MlpConfig("mlp", 4, "normal", 16, 8, False, 2, 0.0)


@pytest.fixture(params=[1, 3])
def served(tmp_path: Path, request: pytest.FixtureRequest) -> ServedGenerator:
    """Return the model of an untrained generator of 1 and of 3 channels."""
    generator = build_generator(NETWORK, size=8, channels=request.param, seed=0)
    save_generator(tmp_path / "g.safetensors", generator, NETWORK, size=8, channels=request.param)
    model = ServedGenerator()
    model.load_context(PythonModelContext({"generator": str(tmp_path / "g.safetensors")}, {}))
    return model


def predict(model: ServedGenerator, **columns: list[Any]) -> pd.DataFrame:
    return model.predict(PythonModelContext({}, {}), pd.DataFrame(columns))


def test_images_are_those_of_each_seeds_bank(served: ServedGenerator) -> None:
    found = predict(served, seed=[4, 9, 4], count=[70, 2, None], first=[None, 5, 69], truncation=[None, 0.5, None])
    assert list(found.seed) == [4] * 70 + [9] * 2 + [4]
    assert list(found.number) == [*range(70), 5, 6, 69]
    assert found.png[72] == found.png[69]
    latents = z_bank(NETWORK, seed=4, count=70), z_bank(NETWORK, seed=9, first=5, count=2, truncation=0.5)
    for z, pngs in zip(latents, (found.png[:70], found.png[70:72]), strict=True):
        for expected, png in zip(generate(served.generator, z), pngs, strict=True):
            with Image.open(io.BytesIO(png)) as picture:
                pixels = np.atleast_3d(np.asarray(picture)).transpose(2, 0, 1)
            assert np.array_equal(pixels, expected.numpy())


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"seed": [1, -1]}, "seed.*first.* -1"),
        ({"seed": [1], "count": [0]}, "count.* 0"),
        ({"seed": [1], "first": [-1]}, "seed.*first.* -1"),
        ({"seed": [1], "truncation": [-0.5]}, "truncation.* -0.5"),
        ({"seed": [1, None]}, "seed"),
        ({"seed": [1, 2], "count": [MOST_IMAGES, 1]}, f"{MOST_IMAGES:,}"),
        ({"seed": []}, f"{MOST_IMAGES:,}"),
        ({"seed": [1], "label": ["3"]}, "no label"),
        ({"seed": [1.5]}, "seed.* 1.5"),
        ({"seed": [True]}, "seed.* True"),
        ({"seed": ["1"]}, "seed.* '1'"),
        ({"seed": [[1, 2]]}, r"seed.* \[1, 2\]"),
        ({"seed": [{"a": 1}]}, "seed.* {'a': 1}"),
        ({"seed": [2**63]}, "seed.* 9223372036854775808"),
        ({"seed": [float("inf")]}, "seed.* inf"),
        ({"seed": [1], "count": [False]}, "count.* False"),
        ({"seed": [1], "truncation": ["0.5"]}, "truncation.* '0.5'"),
        ({"seed": [1], "truncation": [True]}, "truncation.* True"),
        ({"seed": [1], "label": [1.5]}, "label.* 1.5"),
        ({"seed": [1], "sed": [2]}, "unknown column: sed"),
    ],
)
def test_a_refusal_names_the_column_and_has_status_400(
    served: ServedGenerator, columns: dict[str, list[Any]], message: str
) -> None:
    with pytest.raises(MlflowException, match=message) as caught:
        predict(served, **columns)
    assert caught.value.get_http_status_code() == 400


@pytest.mark.parametrize("sent", [[1], {"seed": [1]}, np.ones(2)])
def test_what_is_no_table_is_refused(served: ServedGenerator, sent: Any) -> None:
    with pytest.raises(MlflowException, match="dataframe_records") as caught:
        served.predict(None, sent)
    assert caught.value.get_http_status_code() == 400


def test_a_row_asks_for_one_class_or_for_all_in_turn(tmp_path: Path) -> None:
    network = replace(NETWORK, conditional=True)
    generator = build_generator(network, size=8, channels=1, classes=3, seed=0)
    names = ["ant", "bee", "cow"]
    save_generator(tmp_path / "g.safetensors", generator, network, size=8, channels=1, classes=names)
    model = ServedGenerator()
    model.load_context(PythonModelContext({"generator": str(tmp_path / "g.safetensors")}, {}))
    made = predict(model, seed=[4, 4, 4], count=[4, 2, 1], first=[None, 3, 3], label=[None, "cow", "2"])
    assert list(made.columns) == ["seed", "number", "label", "png"]
    assert list(made.label) == ["ant", "bee", "cow", "ant", "cow", "cow", "cow"]
    assert made.png[4] == made.png[6] != made.png[3]
    z, labels = z_bank(network, seed=4, count=5), torch.tensor([0, 1, 2, 2, 2])
    with Image.open(io.BytesIO(made.png[4])) as picture:
        assert np.array_equal(np.asarray(picture), generate(generator, z, labels)[3, 0].numpy())
