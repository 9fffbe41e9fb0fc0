"""The registered model, as code: MLflow copies this file and `gan_core` beside the weights and runs it; no pickle."""

import io
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
from mlflow.pyfunc.model import PythonModel, PythonModelContext
from PIL import Image

from gan_core.sampling import images_of_seeds
from gan_core.weights import load_generator


class ServedGenerator(PythonModel):
    """Generates PNG images of seeds."""

    def load_context(self, context: PythonModelContext) -> None:
        """Load the averaged generator from `context.artifacts["generator"]`, safetensors."""
        self.generator, self.network = load_generator(Path(context.artifacts["generator"]))

    def predict(
        self, context: PythonModelContext, model_input: pd.DataFrame, params: dict[str, Any] | None = None
    ) -> pd.DataFrame:
        """Return one row for each image: its seed, its number within the seed, and the bytes of a PNG file.

        Args:
            context: not read after loading.
            model_input: column `seed` (at least 0), and optionally `count` (images of that seed, default 1).
            params: not read.

        Returns:
            Columns `seed`, `number` and `png`; the same seed and number give the same bytes.

        Raises:
            ValueError: a seed is negative or a count below 1.
        """
        seeds = [int(seed) for seed in model_input["seed"]]
        given = model_input["count"] if "count" in model_input else [1] * len(seeds)
        counts = [1 if pd.isna(count) else int(count) for count in given]
        if min(seeds, default=0) < 0 or min(counts, default=1) < 1:
            raise ValueError("seed must be at least 0 and count at least 1")
        rows = [(seed, number) for seed, count in zip(seeds, counts, strict=True) for number in range(count)]
        pixels = images_of_seeds(self.generator, self.network, seeds, counts)
        frame = pd.DataFrame(rows, columns=["seed", "number"])
        return frame.assign(png=[_png(image.permute(1, 2, 0).squeeze(2).numpy()) for image in pixels])


def _png(pixels: Any) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG")
    return buffer.getvalue()


mlflow.models.set_model(ServedGenerator())
