"""Images for benchmarks, without any download: the handwritten digits of scikit-learn, enlarged."""

from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image

from mlops.images.decoding import Row
from mlops.images.manifest import manifest, summarize
from mlops.project.prepared_data import MANIFEST, Split, images_path, save_summary

HELD_OUT = 500


def digits(size: int, channels: int) -> NDArray[np.uint8]:
    """Return all 1,797 digits as (N, channels, size, size) in 0..255."""
    from sklearn.datasets import load_digits

    small = (load_digits().images * 15.9375).round().astype(np.uint8)
    large = [np.asarray(Image.fromarray(digit).resize((size, size), Image.Resampling.BICUBIC)) for digit in small]
    return np.stack(large)[:, None].repeat(channels, axis=1)


def prepared_images(folder: Path, count: int, *, size: int, channels: int) -> None:
    """Write what `prepare` would, with `count` training images: the digits, repeated.

    Args:
        folder: new.
        count: training images.
        size: side, pixels.
        channels: 1 or 3.
    """
    folder.mkdir(parents=True)
    images = digits(size, channels)
    rows: list[Row] = []
    counts: dict[Split, int] = {"train": count, "validation": HELD_OUT, "test": HELD_OUT}
    for split, number in counts.items():
        array = np.lib.format.open_memmap(images_path(folder, split), "w+", np.uint8, (number, *images.shape[1:]))
        for start in range(0, number, len(images)):
            array[start : start + len(images)] = images[: number - start]
        rows += [Row(f"{split}/{index}", split, None, size, size, f"{split}{index}", None) for index in range(number)]
    frame, classes = manifest(pd.DataFrame(rows), None)
    frame.to_parquet(folder / MANIFEST, engine="pyarrow", index=False)
    save_summary(folder, summarize(frame, name="digits", size=size, channels=channels, classes=classes))
