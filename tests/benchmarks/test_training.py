from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import benchmarks.training
from benchmarks.harness.images import prepared_images
from benchmarks.training import PEER, dcgan, table
from mlops.project.prepared_data import load_images, load_summary


def test_the_images_are_those_that_training_reads(tmp_path: Path) -> None:
    prepared_images(tmp_path / "prepared", 2_000, size=12, channels=3)
    images = load_images(tmp_path / "prepared", "train")
    summary = load_summary(tmp_path / "prepared")
    assert images.shape == (summary.train, 3, 12, 12) == (2_000, 3, 12, 12)
    assert np.array_equal(images[1_797], images[0])  # the digits over and over
    assert len(np.unique(images[:500].reshape(500, -1), axis=0)) > 490


@pytest.mark.slow
def test_every_loop_is_measured_and_compared_with_the_peer(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    small = replace(benchmarks.training.ON_CPU[0], network=dcgan(4, 4), steps=8, peer_steps=4)
    monkeypatch.setattr(benchmarks.training, "ON_CPU", [small])
    monkeypatch.setattr(benchmarks.training, "IMAGES", 2_000)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for name in ("DVC_ROOT", "MLFLOW_TRACKING_URI"):
        monkeypatch.setenv(name, str(tmp_path))  # which the benchmark sets, and this takes back
    threads = torch.get_num_threads()
    rows = {row[0]: row for row in table("1").rows}
    torch.set_num_threads(threads)
    assert rows[PEER][4] == "1.00"
    assert len(rows) == 6
    speeds = {name: float(row[3].replace(",", "")) for name, row in rows.items()}
    assert all(speed > 0 for speed in speeds.values())
    ours, peer, ratio = speeds["ours, fresh z, fp32"], speeds[PEER], float(rows["ours, fresh z, fp32"][4])
    # both speeds are rounded to 1, their ratio to 0.01
    assert (ours - 0.5) / (peer + 0.5) - 0.005 <= ratio <= (ours + 0.5) / (peer - 0.5) + 0.005
