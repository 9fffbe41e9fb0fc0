import io
import json
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from mlops.images.image_file import ImageFile
from mlops.project.prepared_data import (
    Summary,
    images_path,
    labels_path,
    load_images,
    load_labels,
    load_summary,
    save_summary,
)

SUMMARY = Summary("digits", 8, 1, ["é", "b"], 3, 1, 2, 1, 0, 0, 0, 0)


def npy(images: NDArray[np.uint8]) -> bytes:
    reference = io.BytesIO()
    np.save(reference, images)
    return reference.getvalue()


@pytest.mark.parametrize("sizes", [[1] * 1234, [1000, 0, 234], [1234]])
def test_images_written_bit_by_bit_are_the_file_that_numpy_writes(tmp_path: Path, sizes: list[int]) -> None:
    images = np.random.default_rng(0).integers(0, 256, (1234, 3, 4, 4), dtype=np.uint8)
    with ImageFile(images_path(tmp_path, "test"), (3, 4, 4)) as file:
        for part in np.split(images, np.cumsum(sizes)[:-1]):
            file.append(part)
    assert images_path(tmp_path, "test").read_bytes() == npy(images)
    loaded = load_images(tmp_path, "test")
    assert np.array_equal(loaded, images)
    loaded[:] = 0  # stays in memory
    assert images_path(tmp_path, "test").read_bytes() == npy(images)


@pytest.mark.parametrize("keep", [0, 1, 5])
def test_a_file_goes_on_behind_what_is_to_be_kept(tmp_path: Path, keep: int) -> None:
    images = np.random.default_rng(0).integers(0, 256, (8, 3, 4, 4), dtype=np.uint8)
    path = images_path(tmp_path, "test")
    with ImageFile(path, (3, 4, 4)) as file:
        file.append(images[:5])
    with path.open("ab") as behind:
        behind.write(b"half of the sixth")
    with ImageFile(path, (3, 4, 4), keep=keep) as file:
        file.append(images[keep:])
    assert path.read_bytes() == npy(images)


def write_and_fail(path: Path) -> None:
    with ImageFile(path, (1, 2, 2)) as file:
        file.append(np.zeros((1, 1, 2, 2), np.uint8))
        raise RuntimeError


def test_an_unfinished_file_claims_no_images(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError):
        write_and_fail(tmp_path / "images_train.npy")
    assert np.load(tmp_path / "images_train.npy").shape == (0, 1, 2, 2)


def test_labels_are_none_where_there_are_none(tmp_path: Path) -> None:
    assert load_labels(tmp_path, "train") is None
    np.save(labels_path(tmp_path, "train"), np.array([2, 0]))
    labels = load_labels(tmp_path, "train")
    assert labels is not None
    assert labels.tolist() == [2, 0]


def test_the_summary_survives_and_its_file_is_tidy(tmp_path: Path) -> None:
    save_summary(tmp_path, SUMMARY)
    assert load_summary(tmp_path) == SUMMARY
    text = (tmp_path / "summary.json").read_text(encoding="utf-8")
    assert text == json.dumps(json.loads(text), indent=2, sort_keys=True, ensure_ascii=False) + "\n"
