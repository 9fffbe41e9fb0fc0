import io
import json
from pathlib import Path

import numpy as np
import pytest

from stages.prepared import (
    ImageFile,
    Summary,
    images_path,
    labels_path,
    load_images,
    load_labels,
    load_summary,
    save_summary,
)

SUMMARY = Summary("digits", 8, 1, ["é", "b"], 3, 1, 2, 1, 0, 0, 0, 0)


def test_images_written_one_by_one_are_the_file_that_numpy_writes(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (1234, 3, 4, 4), dtype=np.uint8)
    with ImageFile(images_path(tmp_path, "test"), (3, 4, 4)) as file:
        assert [file.append(image) for image in images] == list(range(1234))
    reference = io.BytesIO()
    np.save(reference, images)
    assert images_path(tmp_path, "test").read_bytes() == reference.getvalue()
    loaded = load_images(tmp_path, "test")
    assert np.array_equal(loaded, images)
    assert not loaded.flags.writeable


def write_and_fail(path: Path) -> None:
    with ImageFile(path, (1, 2, 2)) as file:
        file.append(np.zeros((1, 2, 2), np.uint8))
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
