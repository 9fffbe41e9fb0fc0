"""The folder that `prepare` writes and later stages read."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Split = Literal["train", "validation", "test"]
MANIFEST = "manifest.parquet"
SUMMARY = "summary.json"


@dataclass(frozen=True)
class Summary:
    """What the data are, and what is odd about them: counts are of images.

    `duplicates_*` have the same pixels as an earlier image of their split; `leaks` are validation and test images whose
    pixels are also in the training split. `classes` are in label order, None where the data have no labels.
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
    """Return the images of a split, (N, C, H, W) in 0..255, read from disk where they are touched, never written."""
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
    """Return what `prepare` found."""
    return Summary(**json.loads((prepared / SUMMARY).read_text(encoding="utf-8")))


def save_summary(prepared: Path, summary: Summary) -> None:
    """Write the summary as JSON that is the same for the same content."""
    text = json.dumps(asdict(summary), indent=2, sort_keys=True, ensure_ascii=False)
    (prepared / SUMMARY).write_text(text + "\n", encoding="utf-8")


def images_path(prepared: Path, split: Split) -> Path:
    """Return where the images of a split are."""
    return prepared / f"images_{split}.npy"


def labels_path(prepared: Path, split: Split) -> Path:
    """Return where the labels of a split are, if there are any."""
    return prepared / f"labels_{split}.npy"
