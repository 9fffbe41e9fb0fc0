import json
from pathlib import Path

import numpy as np

from mlops.project.prepared_data import (
    Summary,
    labels_path,
    load_labels,
    load_summary,
    save_summary,
)

SUMMARY = Summary("digits", 8, 1, ["é", "b"], 3, 1, 2, 1, 0, 0, 0, 0)


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
