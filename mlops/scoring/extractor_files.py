"""The files of an extractor: weights, description, and the features of all real images."""

from pathlib import Path
from typing import Any

import torch

from gan_core.metrics.classifier import Classifier
from gan_core.metrics.efficientnet import SHA256
from gan_core.metrics.features import (
    Extractor,
    Features,
    classifier_extractor,
    efficientnet_extractor,
    inception_extractor,
)
from gan_core.metrics.scores import Reference
from gan_core.runtime.tensor_files import load_tensors
from mlops.project.errors import UserError
from mlops.project.identity import dvc_md5, file_digest
from mlops.project.prepared_data import Split, load_labels, load_summary
from mlops.project.result_files import load_json

WEIGHTS = {
    "classifier": "classifier.safetensors",
    "efficientnet-lite0": "efficientnet-lite0.pth",
    "inception-v3": "inception-v3.pth",
}
"""File in the extractor's folder, by kind."""


def features_path(folder: Path, split: Split) -> Path:
    """Return the path of a split's features."""
    return folder / f"features_{split}.safetensors"


def load_real(prepared: Path, folder: Path, device: torch.device) -> tuple[Reference, Features]:
    """Return the reference of scores, made of the training images, and features and logits of the test images in order.

    `folder` is the extractor's; if its features are of other images, that is a UserError.
    """
    expected, actual = describe_extractor(folder)["data_md5"], dvc_md5(prepared)
    if actual != expected:
        raise UserError(
            f"{folder} has features of images whose md5 is {expected}, but that of {prepared} is {actual}; run "
            "`dvc repro extractor`"
        )
    train, _ = load_tensors(features_path(folder, "train"))
    test, _ = load_tensors(features_path(folder, "test"))
    labels, classes = load_labels(prepared, "train"), load_summary(prepared).classes
    known = None if labels is None else torch.tensor(labels)
    manifold = train["manifold"].to(device) if "manifold" in train else None
    reference = Reference(train["features"].to(device), train["radii"].to(device), known, len(classes or []), manifold)
    return reference, Features(test["features"], test["logits"])


def describe_extractor(folder: Path) -> dict[str, Any]:
    """Return name, kind, sha256 and batch size of the extractor in a folder, the md5 of its data, and its manifold."""
    return load_json(folder / "extractor.json")


def load_extractor(folder: Path, device: torch.device) -> Extractor:
    """Return the extractor of a folder in torch-fidelity's form.

    If its weights are not those that the description names, that is a UserError, and they are not read.
    """
    description = describe_extractor(folder)
    weights = folder / WEIGHTS[description["kind"]]
    kind, expected = description["kind"], description["sha256"]
    if file_digest(weights) != (SHA256 if kind == "efficientnet-lite0" else expected):
        raise UserError(f"{weights} was changed since it was made; restore it by `dvc checkout --force {folder}`")
    if kind != "classifier":
        load = efficientnet_extractor if kind == "efficientnet-lite0" else inception_extractor
        return load(weights, device)
    tensors, shape = load_tensors(weights)
    classifier = Classifier(**shape)
    classifier.load_state_dict(tensors)
    classifier.to(device).requires_grad_(False)
    return classifier_extractor(classifier, channels=shape["channels"], sha256=expected)
