"""The parts of a split that are scored and shown."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gan_core.runtime.randomness import stream
from gan_core.runtime.sampling import sample
from mlops.project.prepared_data import Split, load_images, load_labels


def sampled(prepared: Path, split: Split, count: int, *, seed: int, purpose: str) -> Tensor:
    """Return the indices of `count` images of a split, see `gan_core.runtime.sampling.sample`; `purpose` names them."""
    labels = load_labels(prepared, split)
    known = None if labels is None else torch.from_numpy(labels)
    return sample(len(load_images(prepared, split)), count, stream(seed, purpose), known)


def described(prepared: Path, split: Split, count: int, *, seed: int) -> dict[str, Any]:
    """Return what passports have of such a sample: number of images and, if the split has more, its kind and seed."""
    size = len(load_images(prepared, split))
    if count >= size:
        return {"images": size}
    kind = "simple random" if load_labels(prepared, split) is None else "stratified by class"
    return {"images": count, "sample": kind, "seed": seed}
