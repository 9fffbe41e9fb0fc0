"""What prepared images are: what `prepare` counted, and what only their pixels show."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mlops.project.prepared_data import MANIFEST, Split, Summary, load_images, load_summary

DARK, BRIGHT = 32, 223
"""An image is near-black if no value of it is above the first, near-white if none is below the second, in 0..255."""
ELONGATED = 1.5
CHUNK = 4096
SHOWN = 3
"""Names of refused files, at most."""
ALMOST_ALL = 0.99
"""Share of images without colour from which on all are taken for grey."""


@dataclass(frozen=True)
class Findings:
    """What the images are; counts are of all splits together, as far as not said otherwise.

    `refused` are the names of the first few files that are no images. `smallest_class` and `largest_class` are names
    and counts, None without classes. `contradicted` are those with the prepared pixels of one of another class. `side`
    is the median of the shorter sides of the originals, in pixels, and `enlarged` the number of those whose shorter
    side is below that of the prepared images; both are None for published data, whose originals have the prepared size
    or are not noted. `elongated` have one side of `ELONGATED` times the other or more.
    """

    summary: Summary
    total: int
    refused: tuple[str, ...]
    smallest_class: tuple[str, int] | None
    largest_class: tuple[str, int] | None
    contradicted: int
    side: int | None
    enlarged: int | None
    elongated: int
    dark: int
    bright: int
    is_grey: bool


def findings(prepared: Path) -> Findings:
    """Return what the images of all splits are; pixels are read once."""
    summary = load_summary(prepared)
    columns = ["source", "class_name", "width", "height", "sha256", "refused"]
    frame = pd.read_parquet(prepared / MANIFEST, columns=columns, engine="pyarrow")
    accepted = frame[frame["refused"].isna()]
    classes = accepted["class_name"].value_counts() if summary.classes is not None else None
    classes_of_pixels = accepted.groupby("sha256")["class_name"].transform("nunique")
    sides = accepted[["width", "height"]].min(axis=1).dropna()
    dark = bright = grey = 0
    for images in _chunks(prepared):
        pixels = images.reshape(len(images), -1)
        dark += int((pixels.max(axis=1) <= DARK).sum())
        bright += int((pixels.min(axis=1) >= BRIGHT).sum())
        grey += int((images == images[:, :1]).all(axis=(1, 2, 3)).sum())
    return Findings(
        summary,
        len(accepted),
        tuple(frame.loc[frame["refused"].notna(), "source"].head(SHOWN)),
        None if classes is None else (str(classes.index[-1]), int(classes.iloc[-1])),
        None if classes is None else (str(classes.index[0]), int(classes.iloc[0])),
        0 if classes is None else int((classes_of_pixels > 1).sum()),
        int(sides.median()) if len(sides) else None,
        int((sides < summary.size).sum()) if len(sides) else None,
        int((accepted[["width", "height"]].max(axis=1) >= ELONGATED * sides).sum()),
        dark,
        bright,
        grey >= ALMOST_ALL * len(accepted),
    )


def _chunks(prepared: Path) -> Iterator[NDArray[np.uint8]]:
    for split in get_args(Split):
        images = load_images(prepared, split)
        for start in range(0, len(images), CHUNK):
            yield images[start : start + CHUNK]
