"""The stage `extractor`: the network whose features measure quality."""

from pathlib import Path
from typing import Literal

import torch

from gan_core.classifier import Classifier, accuracy, train_classifier
from gan_core.config import ComputeConfig, ExtractorConfig
from gan_core.device import pick_device
from gan_core.fidelity import Extractor, classifier_extractor, inception_extractor
from gan_core.tensor_files import load_tensors, save_tensors
from stages.download import download
from stages.errors import StageError
from stages.lineage import file_digest, project_root
from stages.prepared import load_images, load_labels, load_summary
from stages.progress import progress
from stages.results import load_json, save_json

INCEPTION_URLS = [
    "https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/weights-inception-2015-12-05-6726825d.pth"
]
WEIGHTS = {"classifier": "classifier.safetensors", "inception-v3": "inception-v3.pth"}
"""File in the extractor's folder, by `extractor.kind`."""


def extractor(prepared: Path, folder: Path, *, compute: ComputeConfig, extractor: ExtractorConfig) -> None:
    """Write a folder with the extractor's weights, its description, and how good it is.

    Args:
        prepared: what `prepare` wrote.
        folder: new; weights, `extractor.json` (name, kind, sha256) and `metrics.json` (test accuracy of a classifier).
        compute: device and threads.
        extractor: which network, and how a classifier is trained.

    Raises:
        StageError: the data have no labels for a classifier; Inception's weights are missing or not the published ones.
    """
    folder.mkdir(parents=True)
    weights = folder / WEIGHTS[extractor.kind]
    if extractor.kind == "classifier":
        measured = _train(prepared, weights, compute, extractor)
        name = load_summary(prepared).name
    else:
        measured = {}
        name = "inception-v3"
        _provide_inception(weights, extractor)
    description = {"name": name, "kind": extractor.kind, "sha256": file_digest(weights)}
    save_json(folder / "extractor.json", description)
    save_json(folder / "metrics.json", measured)


def _train(prepared: Path, weights: Path, compute: ComputeConfig, config: ExtractorConfig) -> dict[str, float]:
    summary = load_summary(prepared)
    if summary.classes is None:
        raise StageError(
            "params.yaml: extractor.kind is classifier, but the data have no labels; sort the images into one folder "
            "per class, or set extractor.kind to inception-v3"
        )
    device = pick_device(compute)
    train_images, train_labels = _split(prepared, "train", device)
    test_images, test_labels = _split(prepared, "test", device)
    shape = {"size": summary.size, "channels": summary.channels, "classes": len(summary.classes)}
    classifier = Classifier(**shape).to(device)
    with progress("extractor: epochs", config.epochs) as line:
        for epoch, loss in train_classifier(config, classifier, train_images, train_labels):
            line.update(epoch, f"loss {loss:.4f} nats")
    measured = accuracy(classifier, test_images, test_labels, config.batch_size)
    print(f"extractor: test accuracy {measured:.4f} on {len(test_images)} images")
    save_tensors(weights, dict(classifier.state_dict()), shape)
    return {"test_accuracy": measured}


def _split(prepared: Path, split: Literal["train", "test"], device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    images, labels = load_images(prepared, split), load_labels(prepared, split)
    return torch.tensor(images, device=device), torch.tensor(labels, device=device)


def _provide_inception(weights: Path, config: ExtractorConfig) -> None:
    remedy = (
        f"download {INCEPTION_URLS[0]} (95,628,359 bytes) elsewhere and set extractor.weights to its path, "
        "or set extractor.kind to classifier"
    )
    if config.weights is None:
        target = project_root() / ".checkpoints" / "inception-v3.pth"
        download(INCEPTION_URLS, target, sha256=config.weights_sha256, remedy=remedy)
    else:
        target = project_root() / Path(config.weights).expanduser()
    if not target.is_file():
        raise StageError(f"params.yaml: extractor.weights: {target} does not exist; {remedy}")
    found = file_digest(target)
    if found != config.weights_sha256:
        raise StageError(
            f"{target} has sha256 {found}, but params.yaml: extractor.weights_sha256 is {config.weights_sha256}; "
            f"{remedy}"
        )
    weights.write_bytes(target.read_bytes())


def describe_extractor(folder: Path) -> dict[str, str]:
    """Return name, kind and sha256 of the extractor in a folder."""
    return load_json(folder / "extractor.json")


def load_extractor(folder: Path, device: torch.device) -> Extractor:
    """Return the extractor of a folder; its weights are verified before they are read.

    Args:
        folder: what the stage wrote.
        device: where a classifier computes.

    Returns:
        An extractor that torch-fidelity knows.

    Raises:
        StageError: the weights are not those that the description names.
    """
    description = describe_extractor(folder)
    weights = folder / WEIGHTS[description["kind"]]
    if file_digest(weights) != description["sha256"]:
        raise StageError(f"{weights} was changed since it was made; restore it: dvc checkout --force {folder}")
    if description["kind"] == "inception-v3":
        return inception_extractor(weights)
    tensors, shape = load_tensors(weights)
    classifier = Classifier(**shape)
    classifier.load_state_dict(tensors)
    classifier.to(device).requires_grad_(False)
    return classifier_extractor(classifier, channels=shape["channels"], sha256=description["sha256"])
