"""What changed between two versions of the images, from their manifests: images, splits, classes and sizes."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import get_args

import numpy as np
import pandas as pd

from mlops.project.prepared_data import Split

MOST_CLASSES = 50
"""Rows of classes in the table; those whose counts changed most come first."""


@dataclass(frozen=True)
class Changes:
    """Numbers of images by what became of them, an image being known by its name and changed if its pixels are.

    `renamed` are those among the added whose pixels a removed one had.
    """

    added: int
    removed: int
    changed: int
    renamed: int

    def __str__(self) -> str:
        text = f"{_images(self.added)} added, {self.removed:,} removed, {self.changed:,} changed"
        return f"{text}; {self.renamed:,} of the added are removed ones under other names" if self.renamed else text


def changes(former: pd.DataFrame, new: pd.DataFrame) -> Changes:
    """Return what changed between two manifests, see `mlops.images.manifest`; refused files are no images."""
    before, after = (_accepted(frame).set_index("source")["sha256"] for frame in (former, new))
    added, removed = after[~after.index.isin(before.index)], before[~before.index.isin(after.index)]
    kept = after.index.intersection(before.index)
    renamed = added.isin(set(removed)).sum()
    return Changes(len(added), len(removed), int(after[kept].ne(before[kept]).sum()), int(renamed))


def table(former: pd.DataFrame, new: pd.DataFrame) -> str:
    """Return counts of both versions as a table in markdown: images, splits, refused files, sizes, classes."""
    before, after = ([*_rows(frame)] for frame in (former, new))
    rows = [(name, old, now) for (name, old), (_, now) in zip(before, after, strict=True)]
    lines = [f"| {name} | {old} | {now} |" for name, old, now in [*rows, *_classes(former, new)]]
    return "\n".join(["| | former | new |", "|---|---|---|", *lines])


def _accepted(frame: pd.DataFrame) -> pd.DataFrame:
    return frame[frame["refused"].isna()]


def _images(count: int) -> str:
    return "1 image" if count == 1 else f"{count:,} images"


def _rows(frame: pd.DataFrame) -> Iterator[tuple[str, str]]:
    images = _accepted(frame)
    yield "images", f"{len(images):,}"
    for split in get_args(Split):
        yield split, f"{images['split'].eq(split).sum():,}"
    yield "refused files", f"{len(frame) - len(images):,}"
    sides = images[["width", "height"]]
    yield "median width x height", " x ".join(f"{int(images[side].median()):,}" for side in sides)
    pixels = sides.to_numpy(np.int64)
    yield "shortest to longest side", f"{pixels.min():,} to {pixels.max():,}"


def _classes(former: pd.DataFrame, new: pd.DataFrame) -> Iterator[tuple[str, str, str]]:
    columns = {name: _accepted(frame)["class_name"].value_counts() for name, frame in (("old", former), ("now", new))}
    counts = pd.DataFrame(columns).fillna(0).astype(int).sort_index()
    shown = counts.loc[(counts["now"] - counts["old"]).abs().sort_values(ascending=False, kind="stable").index]
    for name in shown.index[:MOST_CLASSES]:
        yield f"class {name}", f"{shown['old'][name]:,}", f"{shown['now'][name]:,}"
    if len(shown) > MOST_CLASSES:
        yield f"{len(shown) - MOST_CLASSES:,} more classes", "", ""
