"""The registered model as code: MLflow stores this file and `gan_core` beside the weights and runs it; no pickle."""

import io
from collections.abc import Hashable
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
import torch
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE
from mlflow.pyfunc.model import PythonModel, PythonModelContext
from PIL import Image
from torch import Tensor

from gan_core.generation.generate import generate
from gan_core.generation.generator_file import load_generator
from gan_core.generation.labels import in_turn, label_named
from gan_core.generation.latents import z_bank

MOST_IMAGES = 10_000
"""Images of one call: all of them are in memory at once, and no request should take a server down."""
COLUMNS = ("seed", "count", "first", "truncation", "label")


class ServedGenerator(PythonModel):
    """Generates PNG images of seeds."""

    def load_context(self, context: PythonModelContext) -> None:
        """Load the averaged generator from `context.artifacts["generator"]`, safetensors."""
        self.generator, self.network, self.classes = load_generator(Path(context.artifacts["generator"]))

    def predict(
        self, context: PythonModelContext | None, model_input: pd.DataFrame, params: dict[str, Any] | None = None
    ) -> pd.DataFrame:
        """Return one row for each image: its seed, its number within the seed, and the bytes of a PNG file.

        Args:
            context: not read after loading.
            model_input: column `seed` (at least 0), and optionally `count` (images of that seed, default 1), `first`
                (number of the first of them, default 0), `truncation` (bound on the components of z, above 0, default
                none) and, of a conditional generator, `label` (name or number of the class, default all classes in
                turn: image n is of class n modulo their number).
            params: not read.

        Returns:
            Columns `seed`, `number`, of a conditional generator `label` (the name of the class), and `png`; the same
            seed, number, truncation and label give the same bytes.

        Raises:
            MlflowException: a value is out of range or of another kind, a column is unknown, or there is no such class.
                A server answers with status 400 and this message; it hides the message of any other exception.
        """
        if not isinstance(model_input, pd.DataFrame):  # a server gives what it was sent
            raise _refusal("rows are missing; send them as dataframe_records or dataframe_split")
        rows = [_row(record) for record in model_input.to_dict("records")]
        if not 1 <= sum(row["count"] for row in rows) <= MOST_IMAGES:
            raise _refusal(f"one call gives 1 to {MOST_IMAGES:,} images; `first` asks for more of a seed in another")
        try:
            labels = [self._labels(row, row.pop("label")) for row in rows]
            banks = [z_bank(self.network, **row) for row in rows]
        except ValueError as error:
            raise _refusal(str(error)) from None
        asked = torch.cat(labels) if self.classes else None
        pixels = generate(self.generator, torch.cat(banks), asked)
        numbers = [(row["seed"], row["first"] + index) for row in rows for index in range(row["count"])]
        frame = pd.DataFrame(numbers, columns=["seed", "number"])
        if asked is not None:
            frame["label"] = [self.classes[label] for label in asked.tolist()]
        return frame.assign(png=[_png(image.permute(1, 2, 0).squeeze(2).numpy()) for image in pixels])

    def _labels(self, row: dict[str, Any], asked: str | None) -> Tensor:
        """Return the labels (count,) of a row's images; of an unconditional generator nothing but zeros."""
        if asked is not None:
            return torch.full((row["count"],), label_named(asked, self.classes))
        return in_turn(len(self.classes) or 1, count=row["count"], first=row["first"])


def _row(record: dict[Hashable, Any]) -> dict[str, Any]:
    """Return the arguments of `z_bank` and the label, with defaults if a column or its value is missing."""
    if unknown := ", ".join(str(name) for name in record if name not in COLUMNS):
        raise _refusal(f"unknown column: {unknown}; a row has {', '.join(COLUMNS)}")
    given = {str(name): value for name, value in record.items() if _is_given(str(name), value)}
    if "seed" not in given:
        raise _refusal("a row has no seed; give every row one")
    row = {name: _whole(name, given.get(name, default)) for name, default in (("seed", 0), ("count", 1), ("first", 0))}
    if row["seed"] < 0 or row["count"] < 1 or row["first"] < 0:
        raise _refusal(f"seed and first must be at least 0 and count at least 1, got {row}")
    truncation, label = given.get("truncation"), given.get("label")
    if truncation is not None and (isinstance(truncation, bool) or not isinstance(truncation, int | float)):
        raise _refusal(f"truncation must be a number above 0, got {truncation!r}")
    if label is not None and not isinstance(label, str):
        label = str(_whole("label", label))
    return row | {"truncation": truncation, "label": label}


def _is_given(name: str, value: Any) -> bool:
    """Return whether a row has a value; pandas fills a column with NaN or None where other rows have one."""
    missing = pd.isna(value)
    if not isinstance(missing, bool):
        raise _refusal(f"{name} must be one value, got {value!r}")
    return not missing


def _whole(name: str, value: Any) -> int:
    """Return a whole number, also one that pandas made a fraction because other rows lack it."""
    if isinstance(value, bool) or not isinstance(value, int | float) or value != value // 1 or abs(value) >= 2**63:
        raise _refusal(f"{name} must be a whole number below 2^63, got {value!r}")
    return int(value)


def _refusal(message: str) -> MlflowException:
    return MlflowException(message, error_code=INVALID_PARAMETER_VALUE)


def _png(pixels: Any) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG")
    return buffer.getvalue()


mlflow.models.set_model(ServedGenerator())
