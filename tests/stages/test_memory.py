"""What a stage holds in memory does not grow with the pixels of all images."""

import ctypes
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from gan_core.metrics.classifier import Classifier, accuracy, train_classifier
from gan_core.metrics.pictures import spectral_distance
from gan_core.metrics.scores import superimposed, uniform_noise
from gan_core.networks.build import build_generator
from gan_core.networks.mlp import MlpGenerator
from gan_core.runtime.randomness import stream
from tests.gan_core.examples import EXTRACTOR, MLP

SIDE, COUNT = 256, 2000
"""393 MB of pixels."""
BOUND = 250e6
"""Bytes that are held at once, at most."""
M_MMAP_THRESHOLD = -3


def anonymous() -> int:
    """Return this process's anonymous memory in bytes, without pages of files, which the system reclaims."""
    lines = Path("/proc/self/status").read_text().splitlines()
    (line,) = (line for line in lines if line.startswith("RssAnon"))
    return int(line.split()[1]) * 1024


@contextmanager
def bounded() -> Iterator[None]:
    """Fail if more than `BOUND` bytes are held at once inside, beyond those before.

    What is freed goes back to the system meanwhile: glibc otherwise keeps some of it, more or less by chance.
    """
    mallopt = ctypes.CDLL(None).mallopt
    mallopt(M_MMAP_THRESHOLD, 1 << 20)
    before, most, ended = anonymous(), [0], threading.Event()

    def watch() -> None:
        while not ended.wait(0.002):
            most.append(anonymous())

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield
    finally:
        ended.set()
        watcher.join()
        mallopt(M_MMAP_THRESHOLD, 32 << 20)  # as `configure_torch` sets it
    assert max(most) - before < BOUND


@pytest.fixture(scope="module")
def mapped(tmp_path_factory: pytest.TempPathFactory) -> torch.Tensor:
    """Images of a file with holes, which takes no time to write: noise in the first of them, black in the others."""
    path = tmp_path_factory.mktemp("large") / "images"
    shape = (COUNT, 3, SIDE, SIDE)
    path.touch()
    images = torch.from_file(str(path), shared=True, size=COUNT * 3 * SIDE**2, dtype=torch.uint8).reshape(shape)
    images[:8] = torch.randint(256, (8, *shape[1:]), generator=stream(0, "pixels"), dtype=torch.uint8)
    return images


def test_a_classifier_is_trained_and_tested_batch_by_batch(mapped: torch.Tensor) -> None:
    classifier = Classifier(size=SIDE, channels=3, classes=2)
    classifier.hidden = nn.Sequential(nn.AvgPool2d(SIDE), nn.Flatten(), nn.Linear(3, 64))  # in no time
    labels = torch.arange(COUNT) % 2
    config = replace(EXTRACTOR, epochs=1, batch_size=20)
    list(train_classifier(config, classifier, mapped[:20], labels[:20]))  # loads what torch loads when it is first used
    with bounded():
        list(train_classifier(config, classifier, mapped, labels))
        accuracy(classifier, mapped, labels, 20)


def test_what_scores_are_compared_with_comes_in_parts(mapped: torch.Tensor) -> None:
    with bounded():
        for parts in (
            superimposed(mapped, COUNT, stream(0, "trivial"), 32),
            uniform_noise(tuple(mapped.shape), stream(0, "noise"), 32),
        ):
            assert sum(len(part) for part in parts) == COUNT


def test_an_mlp_sums_training_images_in_parts(mapped: torch.Tensor) -> None:
    generator = build_generator(replace(MLP, generator_width=2), size=SIDE, channels=3, seed=0)
    assert isinstance(generator, MlpGenerator)
    with bounded():
        generator.start_at(mapped, stream(0, "mean image"))


def test_spectra_are_computed_in_parts(mapped: torch.Tensor) -> None:
    with bounded():
        spectral_distance(mapped[:60], mapped[60:120])
