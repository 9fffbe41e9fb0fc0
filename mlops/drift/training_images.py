"""The drift of the training images, in the features by which the former ones were measured."""

from pathlib import Path

import numpy as np
import pandas as pd
import torch

from gan_core.config import ComputeConfig
from gan_core.metrics.features import extract, joined
from gan_core.runtime.device import configure_torch, pick_device
from gan_core.runtime.randomness import stream
from gan_core.runtime.sampling import sample
from gan_core.runtime.tensor_files import load_tensors
from mlops.drift.distance import MOST, Drift, drift
from mlops.project.errors import UserError
from mlops.project.prepared_data import MANIFEST, load_images, load_summary
from mlops.scoring.extractor_files import describe_extractor, features_path, load_extractor

AT_ONCE = 256
"""Images, at least, in memory at once."""


def measured(former: Path, extractor: Path, new: Path, compute: ComputeConfig) -> Drift:
    """Measure the drift from former to new training images.

    Args:
        former: a folder that `prepare` wrote.
        extractor: what the stage `extractor` wrote for it.
        new: a folder that `prepare` wrote.
        compute: the device that extracts features, of at most twice `MOST` new images.

    Returns:
        The drift, in the extractor's features.

    Raises:
        UserError: former and new images have other shapes, so that one network cannot take both.
    """
    shapes = [(summary.channels, summary.size) for summary in map(load_summary, (former, new))]
    if shapes[0] != shapes[1]:
        before, now = (f"{channels} channels of {size} pixels" for channels, size in shapes)
        raise UserError(f"former images have {before}, new ones {now}")
    configure_torch(compute)
    device, batch = pick_device(compute), describe_extractor(extractor)["batch_size"]
    at_once = batch * -(-AT_ONCE // batch)  # whole batches, as the stage `extractor` has them
    network, images = load_extractor(extractor, device), load_images(new, "train")
    chosen = sample(len(images), 2 * MOST, stream(0, "images whose drift is measured")).numpy()
    parts = (torch.from_numpy(images[rows]) for rows in np.split(chosen, range(at_once, len(chosen), at_once)))
    features = joined(extract(network, part, device=device, batch_size=batch) for part in parts).features
    known = {sha256: index for index, sha256 in enumerate(_sha256s(former))}
    same = torch.tensor([known.get(sha256, -1) for sha256 in _sha256s(new).iloc[chosen]])
    return drift(load_tensors(features_path(extractor, "train"))[0]["features"], features, same)


def sentence(found: Drift) -> str:
    """Return the drift in words, and beside what it is to be read."""
    low, high = min(found.by_chance), max(found.by_chance)
    verdict = "differ from the former ones by more than chance" if found.exceeds_chance else "are like the former ones"
    return (
        f"the new training images {verdict}: MIND in the former extractor's features is {found.mean:.3g} between "
        f"former and new ones, and {low:.3g} to {high:.3g} between two halves of the former ones "
        f"({found.images:,} images each, {len(found.between)} draws)"
    )


def _sha256s(prepared: Path) -> pd.Series:
    """Return the sha256 of the pixels of each training image, in the order of the array."""
    frame = pd.read_parquet(prepared / MANIFEST, columns=["split", "index", "sha256"])
    return frame[frame["split"].eq("train")].sort_values("index")["sha256"]
