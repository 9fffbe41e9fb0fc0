"""Whether generated images help a classifier of few MNIST images, beside shifted real ones.

`python -m benchmarks utility [PATH] [SEEDS] [STEPS]`. PATH holds MNIST's files, which are downloaded without it; SEEDS
are those of the classifiers (`gan_core.metrics.utility.training`), STEPS those of the generator. For each number of
images, a sample stratified by class, a conditional pair of convolutional networks is trained on these alone. 28 pixels,
one thread, bfloat16 where the processor multiplies it.
"""

from dataclasses import replace

import torch
from torch import Generator, Tensor, nn

from benchmarks.harness.game import relativistic
from benchmarks.harness.tables import Table
from benchmarks.harness.training_data import labelled_mnist
from gan_core.config import ComputeConfig, DcganConfig, DiffAugmentConfig
from gan_core.generation.generate import generate
from gan_core.generation.latents import draw_z
from gan_core.metrics.utility.gain import WAYS
from gan_core.metrics.utility.training import ROUNDS, STEPS, Labelled, accuracies, new_classifiers, train_on_each
from gan_core.runtime.device import Arithmetic, configure_torch, has_bf16
from gan_core.runtime.randomness import stream
from gan_core.runtime.sampling import sample
from gan_core.training.batches import Batches
from gan_core.training.loop import train
from gan_core.training.state import initial_state
from mlops.project.progress import Line, progress
from mlops.scoring.utility import Utility

CPU = torch.device("cpu")
COUNTS = (100, 1_000, 10_000)
NETWORK = DcganConfig("dcgan", 64, "normal", 32, 32, conditional=True)
AUGMENTATION = DiffAugmentConfig("diffaugment", color=False, translation=True, cutout=True)
TRAIN = replace(relativistic(gamma=1.0, rate=1e-3), generator_z="shared")
CLASSIFIER_STEPS = STEPS * len(WAYS) // ROUNDS
"""Of all classifiers in a round."""


def table(path: str | None = None, seeds: str = "5", steps: str = "1500") -> Table:
    """Train, for each number of real images, a generator and the classifiers of each seed."""
    configure_torch(ComputeConfig("cpu", 1))
    real, test = (Labelled(*split) for split in labelled_mnist(path, size=28))
    rows: list[tuple[str, ...]] = []
    each = int(steps) + int(seeds) * ROUNDS * CLASSIFIER_STEPS
    with progress("utility: steps", len(COUNTS) * each) as line:
        for number, count in enumerate(COUNTS):
            chosen = sample(len(real.labels), count, stream(0, "few images", count), real.labels)
            few = Labelled(real.images[chosen], real.labels[chosen])
            generator = trained(few, int(steps), line, number * each)
            measured: dict[str, list[float]] = {way: [] for way in WAYS}
            for seed in range(int(seeds)):
                done = number * each + int(steps) + seed * ROUNDS * CLASSIFIER_STEPS
                for way, share in measure(few, test, generator, seed, line, done).items():
                    measured[way].append(share)
            utility = Utility(measured, mirror=False, train=count, test=len(test.labels), steps=STEPS)
            rows += [(f"{count:,}", *row) for row in utility.rows()]
            print(f"{utility.sentence()}.")
    words = (
        f"Accuracy in % on 10,000 real test images after {STEPS:,} steps of batch 64, gains in points, with 95 % "
        f"intervals over {seeds} seeds of the classifiers, paired by seed. The generators were trained for "
        f"{int(steps):,} steps with the relativistic loss, R1 and R2, and DiffAugment (translation, cutout)."
    )
    columns = ("real images", "trained on", "accuracy", "more than real", "more than shifted")
    return Table("generated images for a classifier of MNIST", columns, tuple(rows), words)


def trained(real: Labelled, steps: int, line: Line, done: int) -> nn.Module:
    """Return the averaged generator of a training on these images alone."""
    arithmetic = Arithmetic(bf16=has_bf16(CPU), micro_batches=1)
    state = initial_state(replace(TRAIN, steps=steps), NETWORK, real.images, arithmetic, CPU, AUGMENTATION, classes=10)
    for report in train(state, Batches(state, *real)):
        line.update(done + report.step)
    return state.ema_generator


def measure(real: Labelled, test: Labelled, generator: nn.Module, seed: int, line: Line, done: int) -> dict[str, float]:
    """Return the accuracies of the classifiers of one seed."""

    def generated(labels: Tensor, rng: Generator) -> Tensor:
        with torch.autocast("cpu", enabled=False):  # pixels need more digits
            return generate(generator, draw_z(NETWORK, len(labels), rng), labels)

    classifiers = new_classifiers(real.images, 10, CPU)
    with torch.autocast("cpu", torch.bfloat16, enabled=has_bf16(CPU), cache_enabled=False):  # weights change within it
        for number in train_on_each(classifiers, real, generated, seed=seed, mirror=False):
            line.update(done + number * CLASSIFIER_STEPS)
        return accuracies(classifiers, test)
