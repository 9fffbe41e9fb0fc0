"""The cost of bfloat16 and of shared latents in quality: FID after equal steps, in pairs of trainings alike otherwise.

`python -m benchmarks precision [SEEDS] [STEPS]`. The convolutional pair on scikit-learn's digits, enlarged to 28
pixels; FID of 2,000 generated images against them by the features of a small classifier. Two processes of one thread.
"""

from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import partial
from multiprocessing import get_context
from statistics import median
from typing import Literal

import torch
from torch import Tensor

from benchmarks.harness.game import TRAIN
from benchmarks.harness.images import digits
from benchmarks.harness.tables import Table
from gan_core.config import DcganConfig, ExtractorConfig
from gan_core.generation.generate import generate
from gan_core.generation.latents import z_bank
from gan_core.metrics.classifier import Classifier, train_classifier
from gan_core.metrics.features import Extractor, classifier_extractor, extract
from gan_core.metrics.intervals import interval
from gan_core.metrics.scores import Reference, fid
from gan_core.runtime.device import Arithmetic
from gan_core.training.loop import train
from gan_core.training.state import initial_state
from mlops.project.progress import progress

CPU = torch.device("cpu")
IMAGES = 2_000
NETWORK = DcganConfig("dcgan", 64, "normal", 32, 32, conditional=False)
CLASSIFIER = ExtractorConfig("classifier", 64, 5, 1e-3, 0, None, "0" * 64)
WAYS: dict[str, tuple[bool, Literal["fresh", "shared"]]] = {
    "fp32, fresh z": (False, "fresh"),
    "bf16, fresh z": (True, "fresh"),
    "bf16, shared z": (True, "shared"),
}
"""Whether networks compute in bfloat16, and the z of the generator's step; the first is the baseline."""


def table(seeds: str = "8", steps: str = "1500") -> Table:
    """Train every seed in every way, score all, and compare each way with the first in pairs."""
    jobs = [(seed, way) for seed in range(int(seeds)) for way in WAYS]
    work = partial(trained_fid, steps=int(steps))
    fids: dict[str, list[float]] = {way: [] for way in WAYS}
    with (
        ProcessPoolExecutor(2, mp_context=get_context("spawn")) as processes,
        progress("trainings", len(jobs)) as line,
    ):
        for done, ((_, way), score) in enumerate(zip(jobs, processes.map(work, jobs), strict=True), start=1):
            fids[way].append(score)
            line.update(done)
    first, *_ = fids.values()
    rows = []
    for way, scores in fids.items():
        more = interval([score - base for score, base in zip(scores, first, strict=True)])
        differs = "" if scores is first else f"{more.mean:+.2f} ({more.low:+.2f} to {more.high:+.2f})"
        rows.append((way, f"{median(scores):.2f}", f"{min(scores):.2f} to {max(scores):.2f}", differs))
    words = (
        f"FID of {IMAGES:,} images after {int(steps):,} steps of batch 64; lower is better. The last column is the "
        f"mean difference to the first row in {seeds} pairs, with its 95 % interval."
    )
    columns = ("arithmetic and latents", "median FID", "over seeds", "more than fp32")
    return Table("quality of bf16 and of shared latents at equal steps", columns, tuple(rows), words)


def trained_fid(job: tuple[int, str], steps: int) -> float:
    """Return the FID of the averaged generator of one training."""
    torch.set_num_threads(1)
    seed, (bf16, generator_z) = job[0], WAYS[job[1]]
    config = replace(TRAIN, seed=seed, steps=steps, generator_z=generator_z)
    images = torch.from_numpy(digits(28, 1))
    state = initial_state(config, NETWORK, images, Arithmetic(bf16, 1))
    for _ in train(state, images):
        pass
    extractor = trained_extractor(images)
    pixels = generate(state.ema_generator, z_bank(NETWORK, seed=seed, count=IMAGES))
    generated, real = (extract(extractor, part, device=CPU, batch_size=64).features for part in (pixels, images))
    return fid(generated, Reference(real, torch.empty(0), None, 0))


def trained_extractor(images: Tensor) -> Extractor:
    """Return the features of a classifier of the images, the same in every process."""
    from sklearn.datasets import load_digits

    classifier = Classifier(size=28, channels=1, classes=10)
    for _ in train_classifier(CLASSIFIER, classifier, images, torch.tensor(load_digits().target)):
        pass
    return classifier_extractor(classifier.requires_grad_(False), channels=1, sha256="0" * 64)
