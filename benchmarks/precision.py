"""What bfloat16 costs in quality: FID after equal steps, in pairs of trainings that share seed, batches and latents.

`python -m benchmarks precision [SEEDS] [STEPS]`. The convolutional pair on scikit-learn's digits, enlarged to 28
pixels; FID of 2,000 generated images against them by the features of a small classifier. Two processes of one thread.
"""

from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import partial
from multiprocessing import get_context
from statistics import median

import torch
from torch import Tensor

from benchmarks.game import TRAIN
from benchmarks.images import digits
from benchmarks.tables import Table
from gan_core.classifier import Classifier, train_classifier
from gan_core.config import ExtractorConfig, NetworkConfig
from gan_core.device import Arithmetic
from gan_core.features import Extractor, classifier_extractor, extract
from gan_core.fidelity import Reference, fid
from gan_core.intervals import interval
from gan_core.sampling import generate, z_bank
from gan_core.state import initial_state
from gan_core.training import train
from stages.progress import progress

CPU = torch.device("cpu")
IMAGES = 2_000
NETWORK = NetworkConfig("dcgan", 64, "normal", 32, 32, 1, 0.0)
CLASSIFIER = ExtractorConfig("classifier", 64, 5, 1e-3, 0, None, "0" * 64)


def table(seeds: str = "8", steps: str = "1500") -> Table:
    """Train every seed twice, score both, and compare them in pairs."""
    jobs = [(seed, bf16) for seed in range(int(seeds)) for bf16 in (False, True)]
    work = partial(trained_fid, steps=int(steps))
    found: dict[tuple[int, bool], float] = {}
    with (
        ProcessPoolExecutor(2, mp_context=get_context("spawn")) as processes,
        progress("trainings", len(jobs)) as line,
    ):
        for job, score in zip(jobs, processes.map(work, jobs), strict=True):
            found[job] = score
            line.update(len(found))
    rows = []
    for name, bf16 in (("fp32", False), ("bf16", True)):
        scores = [found[seed, bf16] for seed in range(int(seeds))]
        rows.append((name, f"{median(scores):.2f}", f"{min(scores):.2f} to {max(scores):.2f}"))
    pairs = interval([found[seed, True] - found[seed, False] for seed in range(int(seeds))])
    words = (
        f"FID of {IMAGES:,} images after {int(steps):,} steps of batch 64; lower is better. bf16 less fp32, in {seeds} "
        f"pairs: {pairs.mean:+.2f}, between {pairs.low:+.2f} and {pairs.high:+.2f} in 95 of 100 repetitions."
    )
    return Table("quality of bf16 at equal steps", ("precision", "median FID", "over seeds"), tuple(rows), words)


def trained_fid(job: tuple[int, bool], steps: int) -> float:
    """Return the FID of the averaged generator of one training."""
    torch.set_num_threads(1)
    seed, bf16 = job
    config, images = replace(TRAIN, seed=seed, steps=steps), torch.from_numpy(digits(28, 1))
    state = initial_state(config, NETWORK, images, Arithmetic(bf16, 1))
    for _ in train(config, state, images):
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
