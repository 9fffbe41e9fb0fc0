"""What labels give on MNIST: FID and label accuracy of a conditional pair beside an unconditional one, at equal steps.

`python -m benchmarks labels [PATH] [STEPS] [SEEDS]`. PATH holds MNIST's files, which are downloaded without it. The
convolutional pair at 28 pixels, one thread; 10,000 images of each generator are scored against the training images by a
small classifier of these. A third pair is trained on labels in a random order, which say nothing.
"""

from dataclasses import replace

import torch
from torch import Tensor

from benchmarks.harness.game import relativistic
from benchmarks.harness.tables import Table
from benchmarks.harness.training_data import digit_classifier, labelled_mnist
from gan_core.config import DcganConfig
from gan_core.generation.generate import generate
from gan_core.generation.latents import z_bank
from gan_core.metrics.features import Extractor, Features, classifier_extractor, extract
from gan_core.metrics.scores import Reference, fid
from gan_core.runtime.device import Arithmetic, has_bf16
from gan_core.runtime.randomness import stream
from gan_core.training.batches import Batches
from gan_core.training.loop import train
from gan_core.training.state import initial_state
from mlops.project.progress import Line, progress

CPU = torch.device("cpu")
NETWORK = DcganConfig("dcgan", 64, "normal", 32, 32, conditional=False)
RELATIVISTIC = relativistic(gamma=0.5, rate=5e-4)
"""The training of the preset `mnist-dcgan`; the non-saturating loss without penalties loses variety with labels."""
PAIRS = {"unconditional": None, "conditional": "own", "conditional, labels in a random order": "shuffled"}
"""The labels on which each pair is trained."""


def table(path: str | None = None, steps: str = "3000", seeds: str = "1") -> Table:
    """Train the pairs and score them and as many real test images."""
    torch.set_num_threads(1)
    (images, labels), (test, asked) = labelled_mnist(path, size=28)
    extractor = classifier_extractor(digit_classifier(images, labels), channels=1, sha256="0" * 64)
    reference = Reference(features(extractor, images).features, torch.empty(0), None, 0)
    real = features(extractor, test)
    rows = [("real test images", f"{fid(real.features, reference):.2f}", accuracy(real, asked))]
    with progress("steps", len(PAIRS) * int(seeds) * int(steps)) as line:
        for number, (name, kind) in enumerate(PAIRS.items()):
            scores = []
            for seed in range(int(seeds)):
                order = torch.randperm(len(labels), generator=stream(seed, "shuffled labels"))
                shown = {"own": labels, "shuffled": labels[order]}.get(kind or "")
                done = (number * int(seeds) + seed) * int(steps)
                generated = features(extractor, trained_images(seed, int(steps), images, shown, asked, line, done))
                scores.append((fid(generated.features, reference), accuracy(generated, asked)))
            fids = ", ".join(f"{score:.2f}" for score, _ in scores)
            rows.append((name, fids, "" if kind is None else ", ".join(right for _, right in scores)))
    words = (
        f"FID and label accuracy of 10,000 images after {int(steps):,} steps of batch 64, by seed; label accuracy is "
        "the share of images that the classifier takes for the class that was asked for."
    )
    return Table("labels on MNIST at equal steps", ("pair", "FID", "label accuracy"), tuple(rows), words)


def trained_images(
    seed: int, steps: int, images: Tensor, labels: Tensor | None, asked: Tensor, line: Line, done: int
) -> Tensor:
    """Return as many images of a trained generator as there are labels `asked`."""
    network = replace(NETWORK, conditional=labels is not None)
    arithmetic = Arithmetic(bf16=has_bf16(CPU), micro_batches=1)
    classes = 0 if labels is None else 10
    state = initial_state(replace(RELATIVISTIC, seed=seed, steps=steps), network, images, arithmetic, classes=classes)
    for report in train(state, Batches(state, images, labels)):
        line.update(done + report.step)
    z = z_bank(network, seed=seed, count=len(asked))
    return generate(state.ema_generator, z, None if labels is None else asked)


def features(extractor: Extractor, pixels: Tensor) -> Features:
    """Return features and logits of images (N, C, H, W) uint8."""
    return extract(extractor, pixels, device=CPU, batch_size=256)


def accuracy(images: Features, labels: Tensor) -> str:
    """Return the share of images whose largest logit is that of their label."""
    return f"{(images.logits.argmax(dim=1) == labels).double().mean().item():.2%}"
