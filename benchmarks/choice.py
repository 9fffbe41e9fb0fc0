"""Whether the best snapshot of a training is better than its last: trainings that are deliberately too long.

`python -m benchmarks choice [PATH] [STEPS] [RUNS]`. PATH holds MNIST's files, which are downloaded without it. The
convolutional pair at 14 pixels with the loss of 2014, without penalties or augmentation, learns 20 images, which the
discriminator memorises, in one thread; with 100 or 500 images the last snapshot was always the best. The stage's rule
chooses among ten snapshots as it would in a run: by KID against 1,000 validation images, in the features of a
classifier of these 20 images. What it chose is then judged by others: FID against MNIST's 10,000 test images, in the
features of a classifier of all 60,000, on other latents.
"""

from copy import deepcopy
from dataclasses import replace
from statistics import mean

import torch
from torch import Tensor, nn

from benchmarks.harness.game import TRAIN
from benchmarks.harness.tables import Table
from benchmarks.harness.training_data import CLASSIFIER, digit_classifier, labelled_mnist
from gan_core.config import DcganConfig
from gan_core.generation.generate import generate
from gan_core.generation.latents import z_bank
from gan_core.metrics.classifier import Classifier, train_classifier
from gan_core.metrics.features import Extractor, classifier_extractor, extract
from gan_core.metrics.intervals import verdict
from gan_core.metrics.kid import kid
from gan_core.metrics.scores import Reference, fid
from gan_core.runtime.device import Arithmetic, has_bf16
from gan_core.runtime.randomness import stream
from gan_core.runtime.sampling import sample
from gan_core.training.batches import Batches
from gan_core.training.loop import train
from gan_core.training.state import initial_state
from mlops.project.progress import Line, progress
from mlops.scoring.choice import best_step, trend

CPU = torch.device("cpu")
SIZE = 14
NETWORK = DcganConfig("dcgan", 64, "normal", 32, 32, conditional=False)
TRAINED, VALIDATION, GENERATED = 20, 1000, 1000
"""Images to train on and to choose by, and generated ones of each snapshot."""
BANKS, BANK = 5, 2000
"""Of latents, and images of each, by which a choice is judged."""
SETTINGS = replace(TRAIN, snapshots=10, ema_decay=0.99)
"""An average over 100 steps: a longer one would hide how a training wanders."""
COLUMNS = ("run", "steps chosen of", "KID chosen", "KID last", "FID chosen", "FID last", "chosen is")


def table(path: str | None = None, steps: str = "6000", runs: str = "10") -> Table:
    """Train, choose and judge."""
    torch.set_num_threads(1)
    (images, labels), (test, _) = labelled_mnist(path, size=SIZE)
    judge = classifier_extractor(digit_classifier(images, labels), channels=1, sha256="0" * 64)
    reference = Reference(features(judge, test), torch.empty(0), None, 0)
    rows, verdicts, trends = [], list[str](), list[str]()
    with progress("choice: steps", int(runs) * int(steps)) as line:
        for seed in range(int(runs)):
            order = sample(len(images), TRAINED + VALIDATION, stream(seed, "few images"), labels)
            few, held = order.split((TRAINED, VALIDATION))
            chooser = classifier_extractor(small_classifier(images[few], labels[few]), channels=1, sha256=f"{seed:064}")
            kept = snapshots(images[few], seed, int(steps), line)
            real = features(chooser, images[held])
            kids = {step: kid(generated(chooser, network, 0, GENERATED), real) for step, network in kept.items()}
            chosen, last = best_step(kids), max(kids)
            fids = [judged(judge, kept[step], reference) for step in (chosen, last)]
            verdicts.append(
                "the same" if chosen == last else verdict(fids[1], fids[0], lower_is_better=True, rate=0.05)
            )
            trends.append(trend(kids))
            shown = [f"{kids[step].value:.3g}" for step in (chosen, last)] + [f"{mean(values):.2f}" for values in fids]
            rows.append((f"{seed}", f"{chosen:,} of {last:,}", *shown, verdicts[-1]))
    counts = {name: verdicts.count(name) for name in ("better", "the same", "cannot tell", "worse")}
    words = (
        f"{', '.join(f'{name}: {count}' for name, count in counts.items())}, by Welch's test at 5 % over {BANKS} banks "
        f"of {BANK:,} images. {trends.count('worse')} of {runs} runs are reported as past their best, "
        f"{trends.count('level')} as no longer improving."
    )
    return Table(f"the best of ten snapshots of too long trainings on {TRAINED} images", COLUMNS, tuple(rows), words)


def small_classifier(images: Tensor, labels: Tensor) -> Classifier:
    """Return a classifier of few images, as the stage `extractor` trains one."""
    classifier = Classifier(size=SIZE, channels=1, classes=10)
    for _ in train_classifier(replace(CLASSIFIER, batch_size=64, epochs=30), classifier, images, labels):
        pass
    return classifier.requires_grad_(False)


def snapshots(images: Tensor, seed: int, steps: int, line: Line) -> dict[int, nn.Module]:
    """Return the averaged generator at each of the training's snapshots."""
    config = replace(SETTINGS, seed=seed, steps=steps)
    state = initial_state(config, NETWORK, images, Arithmetic(bf16=has_bf16(CPU), micro_batches=1))
    kept: dict[int, nn.Module] = {}
    for report in train(state, Batches(state, images, None)):
        line.update(seed * steps + report.step)
        if report.step in config.snapshot_steps:
            kept[report.step] = deepcopy(state.ema_generator)
    return kept


def judged(judge: Extractor, network: nn.Module, reference: Reference) -> list[float]:
    """Return the FID of each bank of images."""
    return [fid(generated(judge, network, BANK * (1 + bank), BANK), reference) for bank in range(BANKS)]


def generated(extractor: Extractor, network: nn.Module, first: int, count: int) -> Tensor:
    """Return features of images of the latents from `first` on."""
    return features(extractor, generate(network, z_bank(NETWORK, seed=0, count=count, first=first)))


def features(extractor: Extractor, pixels: Tensor) -> Tensor:
    """Return features of images (N, C, H, W) uint8."""
    return extract(extractor, pixels, device=CPU, batch_size=256).features
