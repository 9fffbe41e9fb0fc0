import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from gan_core.config import ComputeConfig
from gan_core.metrics.efficientnet import SHA256
from gan_core.metrics.features import extract
from gan_core.metrics.neighbours import radii
from gan_core.runtime.tensor_files import save_tensors
from mlops.project.errors import UserError
from mlops.project.identity import dvc_md5, file_digest
from mlops.project.params import Params
from mlops.project.prepared_data import load_images, load_labels
from mlops.scoring.extractor_files import describe_extractor, load_extractor, load_real
from stages.extractor import extractor
from tests.gan_core.examples import random_inception

CPU = ComputeConfig("cpu", 1)


@pytest.fixture
def trained(root: Path, prepared: Path, committed: Params) -> Path:
    extractor(prepared, root / "extractor", compute=CPU, extractor=replace(committed.extractor, epochs=2))
    return root / "extractor"


def test_the_classifier_is_measured_on_test_images(trained: Path) -> None:
    assert 0.5 < json.loads((trained / "metrics.json").read_text())["test_accuracy"] <= 1


def test_the_description_names_data_and_weights(trained: Path, prepared: Path) -> None:
    described = describe_extractor(trained)
    assert (described["name"], described["data_md5"]) == ("digits", dvc_md5(prepared))
    assert described["sha256"] == file_digest(trained / "classifier.safetensors")


def test_the_features_of_real_images_are_those_that_it_extracts(trained: Path, prepared: Path) -> None:
    device, batch_size = torch.device("cpu"), describe_extractor(trained)["batch_size"]
    network = load_extractor(trained, device)
    reference, test = load_real(prepared, trained, device)
    images = {split: torch.tensor(load_images(prepared, split)) for split in ("train", "test")}
    found = {name: extract(network, pixels, device=device, batch_size=batch_size) for name, pixels in images.items()}
    assert torch.equal(reference.features, found["train"].features)
    assert torch.equal(reference.radii, radii(found["train"].features))
    assert (reference.manifold, describe_extractor(trained)["manifold"]) == (None, {"images": len(images["train"])})
    assert torch.equal(test.features, found["test"].features)
    assert torch.equal(test.logits, found["test"].logits)
    labels = load_labels(prepared, "train")
    assert reference.labels is not None
    assert labels is not None
    assert reference.labels.tolist() == labels.tolist()


def test_precision_and_recall_of_many_images_are_those_of_a_sample_of_all_classes(
    root: Path, prepared: Path, committed: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stages.extractor.LARGEST_MANIFOLD", 200)
    config = replace(committed.extractor, epochs=1, seed=3)
    extractor(prepared, root / "extractor", compute=CPU, extractor=config)
    reference, _ = load_real(prepared, root / "extractor", torch.device("cpu"))
    assert reference.manifold is not None
    assert reference.labels is not None
    assert torch.equal(reference.radii, radii(reference.features[reference.manifold]))
    counts = torch.bincount(reference.labels[reference.manifold], minlength=10)
    expected = torch.bincount(reference.labels) * 200 / len(reference.labels)
    assert (counts.sum().item(), (counts - expected).abs().max().item() < 1) == (200, True)
    described = describe_extractor(root / "extractor")["manifold"]
    assert described == {"images": 200, "sample": "stratified by class", "seed": 3}


def test_features_of_other_images_of_the_same_name_are_refused(trained: Path, prepared: Path, root: Path) -> None:
    """torch-fidelity's cache, which knows its input by name alone, would answer with stale features here."""
    other = root / "other"
    shutil.copytree(prepared, other)
    images = load_images(prepared, "train").copy()
    images[0] ^= 1
    np.save(other / "images_train.npy", images)
    with pytest.raises(UserError, match=rf"{dvc_md5(prepared)}, .*other is {dvc_md5(other)}"):
        load_real(other, trained, torch.device("cpu"))


def test_weights_that_were_changed_are_refused(trained: Path) -> None:
    weights = trained / "classifier.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    with pytest.raises(UserError, match=r"classifier\.safetensors .*dvc checkout"):
        load_extractor(trained, torch.device("cpu"))


def test_a_classifier_needs_labels(root: Path, prepared: Path, committed: Params) -> None:
    unlabelled = root / "prepared"
    unlabelled.mkdir()
    summary = json.loads((prepared / "summary.json").read_text())
    (unlabelled / "summary.json").write_text(json.dumps(summary | {"classes": None}))
    with pytest.raises(UserError, match=r"extractor\.kind"):
        extractor(unlabelled, root / "extractor", compute=CPU, extractor=committed.extractor)


@pytest.fixture
def given(trained: Path, root: Path, prepared: Path, committed: Params) -> Callable[..., Path]:
    """Return a function that takes a classifier from a path."""

    def run(weights: Path, **changes: Any) -> Path:
        config = replace(committed.extractor, weights=str(weights), weights_sha256=file_digest(weights))
        extractor(prepared, root / "given", compute=CPU, extractor=replace(config, **changes))
        return root / "given"

    return run


def test_a_classifier_may_be_given_by_its_path(given: Callable[..., Path], trained: Path, root: Path) -> None:
    weights = shutil.copy(trained / "classifier.safetensors", root / "our_digits.safetensors")
    folder = given(weights)
    assert describe_extractor(folder) == describe_extractor(trained) | {"name": "our_digits"}
    for split in ("train", "test"):
        name = f"features_{split}.safetensors"
        assert (folder / name).read_bytes() == (trained / name).read_bytes()


def test_a_given_classifier_must_be_the_one_that_is_named(given: Callable[..., Path], trained: Path) -> None:
    with pytest.raises(UserError, match=r"classifier\.safetensors .*extractor\.weights_sha256 0{64}"):
        given(trained / "classifier.safetensors", weights_sha256="0" * 64)


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ({"size": 28, "channels": 1, "classes": 10}, r"for images of 28 pixels and 1 channels, the data have 8 and 1"),
        ({}, r"is no classifier of this project"),
    ],
    ids=["other images", "no classifier"],
)
def test_a_given_classifier_must_be_of_such_images(
    given: Callable[..., Path], root: Path, shape: dict[str, int], message: str
) -> None:
    save_tensors(root / "other.safetensors", {}, shape)
    with pytest.raises(UserError, match=message):
        given(root / "other.safetensors")


def test_scores_cannot_be_called_by_any_name(given: Callable[..., Path], trained: Path, root: Path) -> None:
    with pytest.raises(UserError, match="letters"):
        given(Path(shutil.copy(trained / "classifier.safetensors", root / "Our Digits.safetensors")))


@pytest.fixture
def inception(root: Path, prepared: Path, committed: Params) -> Callable[..., Path]:
    def run(weights: Path, sha256: str) -> Path:
        config = replace(committed.extractor, kind="inception-v3", weights=str(weights), weights_sha256=sha256)
        extractor(prepared, root / "extractor", compute=CPU, extractor=config)
        return root / "extractor"

    return run


def test_inception_without_its_file_says_what_it_needs(inception: Callable[..., Path], root: Path) -> None:
    with pytest.raises(UserError, match=r"weights: .*none\.pth .*https://.*95,628,359 bytes"):
        inception(root / "none.pth", "0" * 64)


def test_inception_of_another_sum_is_refused(inception: Callable[..., Path], root: Path) -> None:
    (root / "other.pth").write_bytes(b"not the published weights")
    with pytest.raises(UserError, match=rf"{file_digest(root / 'other.pth')}, .* {'0' * 64}"):
        inception(root / "other.pth", "0" * 64)


class Payload:
    """Makes a folder when it is unpickled."""

    def __init__(self, made: Path) -> None:
        self.made = made

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.made),)


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("content", [Payload, lambda made: {"weight": torch.ones(2), "other": Payload(made)}])
def test_weights_with_a_sum_of_their_own_run_no_code(
    inception: Callable[..., Path], root: Path, content: Callable[[Path], object], zipped: bool
) -> None:
    torch.save(content(root / "made"), root / "strange.pth", _use_new_zipfile_serialization=zipped)
    with pytest.raises(UserError, match=r"extractor\.weights: .* tensors alone"):
        inception(root / "strange.pth", file_digest(root / "strange.pth"))
    assert not (root / "made").exists()
    torch.load(root / "strange.pth", weights_only=False)
    assert (root / "made").exists()  # it would have


@pytest.mark.slow
def test_inception_is_verified_and_kept(root: Path, prepared: Path, committed: Params) -> None:
    few = root / "few"
    shutil.copytree(prepared, few)
    for split in ("train", "test"):
        np.save(few / f"images_{split}.npy", load_images(prepared, split)[:12])
    weights = random_inception(root / "weights.pth")
    config = replace(
        committed.extractor, kind="inception-v3", weights=str(weights), weights_sha256=file_digest(weights)
    )
    extractor(few, root / "extractor", compute=CPU, extractor=config)
    assert describe_extractor(root / "extractor")["name"] == "inception-v3"
    assert file_digest(root / "extractor" / "inception-v3.pth") == file_digest(weights)
    reference, test = load_real(few, root / "extractor", torch.device("cpu"))
    assert (reference.features.shape, test.features.shape, test.logits.shape) == ((12, 2048), (12, 2048), (12, 1008))


@pytest.fixture
def folder_of_images(root: Path, prepared: Path) -> Path:
    """Return a few digits as if they came from a folder without classes."""
    few = root / "few"
    shutil.copytree(prepared, few)
    for split in ("train", "validation", "test"):
        np.save(few / f"images_{split}.npy", load_images(prepared, split)[:12])
        (few / f"labels_{split}.npy").unlink()
    summary = json.loads((prepared / "summary.json").read_text())
    (few / "summary.json").write_text(json.dumps(summary | {"name": "folder", "classes": None}))
    return few


def test_a_folder_without_classes_is_measured_by_efficientnet(
    folder_of_images: Path, root: Path, committed: Params
) -> None:
    extractor(folder_of_images, root / "extractor", compute=CPU, extractor=committed.extractor)
    described = describe_extractor(root / "extractor")
    assert (described["kind"], described["name"]) == ("efficientnet-lite0", "efficientnet-lite0")
    assert described["sha256"] == file_digest(root / "extractor" / "efficientnet-lite0.pth") == SHA256
    reference, test = load_real(folder_of_images, root / "extractor", torch.device("cpu"))
    assert (reference.features.shape, test.features.shape, test.logits.shape) == ((12, 1280), (12, 1280), (12, 1000))
    assert (reference.labels, json.loads((root / "extractor" / "metrics.json").read_text())) == (None, {})


def test_efficientnet_takes_no_other_weights(folder_of_images: Path, root: Path, committed: Params) -> None:
    config = replace(committed.extractor, weights="ours.safetensors")
    with pytest.raises(UserError, match=r"extractor\.weights is ours\.safetensors, .*efficientnet-lite0"):
        extractor(folder_of_images, root / "extractor", compute=CPU, extractor=config)


def test_weights_other_than_the_published_ones_are_never_read(
    folder_of_images: Path, root: Path, committed: Params
) -> None:
    extractor(folder_of_images, root / "extractor", compute=CPU, extractor=committed.extractor)
    weights, description = root / "extractor" / "efficientnet-lite0.pth", root / "extractor" / "extractor.json"
    weights.write_bytes(b"not the published weights")
    described = json.loads(description.read_text()) | {"sha256": file_digest(weights)}
    description.write_text(json.dumps(described))
    with pytest.raises(UserError, match=r"efficientnet-lite0\.pth .*dvc checkout"):
        load_extractor(root / "extractor", torch.device("cpu"))
