"""Data to train on: images as the pipeline prepares them, and points of a known density."""

from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import replace
from functools import cache
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import Tensor

from experiments.densities.config import load_density_params
from gan_core.config import ExtractorConfig
from gan_core.metrics.classifier import Classifier, train_classifier
from gan_core.runtime.randomness import stream
from gan_core.theory.densities import PLANES
from gan_core.theory.point_networks import build_players
from gan_core.training.state import TrainState, state_of
from mlops.project import params
from mlops.project.params import DataConfig
from mlops.project.prepared_data import load_images, load_labels
from stages.fetch import fetch
from stages.prepare import prepare

ROOT = Path(__file__).parents[2]
PARAMS = params.load(ROOT / "params.yaml")
CLASSIFIER = ExtractorConfig("classifier", 128, 3, 1e-3, 0, None, "0" * 64)
Labelled = tuple[Tensor, Tensor]
"""Images (N, C, H, W) uint8 and labels (N,)."""


@cache
def real_images(data: str, path: str | None) -> tuple[Tensor, Tensor]:
    """Return training and validation images as the pipeline prepares them."""
    source = DataConfig(data, path)  # type: ignore[arg-type]  # one of two names
    with _prepared(source, 8 if data == "digits" else 28) as prepared:
        return torch.tensor(load_images(prepared, "train")), torch.tensor(load_images(prepared, "validation"))


def labelled_mnist(path: str | None, *, size: int) -> tuple[Labelled, Labelled]:
    """Return training and test images as the pipeline prepares them, with their labels; no path: downloaded."""
    with _prepared(DataConfig("mnist", path), size) as prepared:
        images = [torch.tensor(load_images(prepared, split)) for split in ("train", "test")]
        labels = [torch.tensor(load_labels(prepared, split)) for split in ("train", "test")]
    return (images[0], labels[0]), (images[1], labels[1])


@contextmanager
def _prepared(source: DataConfig, size: int) -> Iterator[Path]:
    with TemporaryDirectory() as folder, redirect_stdout(StringIO()):
        raw, prepared = Path(folder, "raw"), Path(folder, "prepared")
        fetch(raw, data=source)
        prepare(raw, prepared, data=source, prepare=replace(PARAMS.prepare, image_size=size))
        yield prepared


def digit_classifier(digits: Tensor, labels: Tensor) -> Classifier:
    """Return a small classifier, trained on digits (N, 1, H, W) uint8."""
    classifier = Classifier(size=digits.shape[-1], channels=1, classes=10)
    for _ in train_classifier(CLASSIFIER, classifier, digits, labels):
        pass
    return classifier.requires_grad_(False)


def ring(seed: int) -> tuple[TrainState, Tensor, Tensor]:
    """Return the training on a ring of 8 Gaussians, with points of its density to train on and held-out ones."""
    game = load_density_params(ROOT / "experiments/densities/params.yaml").ring
    config, density = replace(game.train, seed=seed, report_every=PARAMS.train.report_every), PLANES["ring"]
    players = build_players(game.network, dimensions=density.dimensions, octaves=game.octaves, seed=seed)
    points, unseen = (density.sample(100_000, stream(seed, purpose)) for purpose in ("points", "unseen points"))
    return state_of(config, game.network, *players), points, unseen
