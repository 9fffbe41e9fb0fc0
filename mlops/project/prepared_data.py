"""The folder that `prepare` writes and later stages read."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from mlops.project.result_files import load_json, save_json

Split = Literal["train", "validation", "test"]
MANIFEST = "manifest.parquet"
SUMMARY = "summary.json"
UNLABELLED = (
    "network.conditional in params.yaml is true, but the images have no labels; sort those of data.path into one "
    "folder per class, or set network.conditional to false"
)
"""What to say of conditional networks and data without labels."""


@dataclass(frozen=True)
class Summary:
    """What the data are, duplicates and refused images: counts.

    `duplicates_*` have the same pixels as an earlier image of their split; `leaks` are validation and test images whose
    pixels are also in the training split. `classes` are in label order, None if the data have no labels.
    """

    name: str
    size: int
    channels: int
    classes: list[str] | None
    train: int
    validation: int
    test: int
    refused: int
    duplicates_train: int
    duplicates_validation: int
    duplicates_test: int
    leaks: int


def load_images(prepared: Path, split: Split) -> NDArray[np.uint8]:
    """Return the images of a split, (N, C, H, W) in 0..255, mapped from disk and never written."""
    images: NDArray[np.uint8] = np.load(images_path(prepared, split), mmap_mode="c", allow_pickle=False)
    return images


def load_labels(prepared: Path, split: Split) -> NDArray[np.int64] | None:
    """Return the labels of a split, (N,), or None if the data have none."""
    path = labels_path(prepared, split)
    if not path.exists():
        return None
    labels: NDArray[np.int64] = np.load(path, allow_pickle=False)
    return labels


def load_summary(prepared: Path) -> Summary:
    """Return the summary that `prepare` wrote."""
    return Summary(**load_json(prepared / SUMMARY))


def save_summary(prepared: Path, summary: Summary) -> None:
    """Write the summary."""
    save_json(prepared / SUMMARY, asdict(summary))


def images_path(prepared: Path, split: Split) -> Path:
    """Return the path of a split's images."""
    return prepared / f"images_{split}.npy"


def labels_path(prepared: Path, split: Split) -> Path:
    """Return the path of a split's labels, if there are any."""
    return prepared / f"labels_{split}.npy"
