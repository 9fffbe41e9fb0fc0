import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from gan_core.config import ComputeConfig
from stages.errors import StageError
from stages.extractor import describe_extractor, extractor, load_extractor
from stages.lineage import file_digest
from stages.params import Params

CPU = ComputeConfig("cpu", 1)


@pytest.fixture
def trained(root: Path, prepared: Path, committed: Params) -> Path:
    extractor(prepared, root / "extractor", compute=CPU, extractor=replace(committed.extractor, epochs=2))
    return root / "extractor"


def test_the_classifier_is_measured_on_test_images(trained: Path) -> None:
    assert 0.5 < json.loads((trained / "metrics.json").read_text())["test_accuracy"] <= 1


def test_the_description_names_data_and_weights(trained: Path) -> None:
    described = describe_extractor(trained)
    assert described["name"] == "digits"
    assert described["sha256"] == file_digest(trained / "classifier.safetensors")


def test_weights_that_were_changed_are_refused(trained: Path) -> None:
    weights = trained / "classifier.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    with pytest.raises(StageError, match=r"classifier\.safetensors was changed .* dvc checkout"):
        load_extractor(trained, torch.device("cpu"))


def test_a_classifier_needs_labels(root: Path, prepared: Path, committed: Params) -> None:
    unlabelled = root / "prepared"
    unlabelled.mkdir()
    summary = json.loads((prepared / "summary.json").read_text())
    (unlabelled / "summary.json").write_text(json.dumps(summary | {"classes": None}))
    with pytest.raises(StageError, match=r"extractor\.kind is classifier, but the data have no labels; sort"):
        extractor(unlabelled, root / "extractor", compute=CPU, extractor=committed.extractor)


@pytest.fixture
def inception(root: Path, prepared: Path, committed: Params) -> Callable[..., Path]:
    def run(weights: Path, sha256: str) -> Path:
        config = replace(committed.extractor, kind="inception-v3", weights=str(weights), weights_sha256=sha256)
        extractor(prepared, root / "extractor", compute=CPU, extractor=config)
        return root / "extractor"

    return run


def test_inception_without_its_file_says_what_it_needs(inception: Callable[..., Path], root: Path) -> None:
    with pytest.raises(StageError, match=r"weights: .*none\.pth does not exist; download https://.*95,628,359 bytes"):
        inception(root / "none.pth", "0" * 64)


def test_inception_of_another_sum_is_refused(inception: Callable[..., Path], root: Path) -> None:
    (root / "other.pth").write_bytes(b"not the published weights")
    with pytest.raises(
        StageError, match=rf"has sha256 {file_digest(root / 'other.pth')}, but params.yaml: .* {'0' * 64}"
    ):
        inception(root / "other.pth", "0" * 64)


def test_inception_is_verified_and_kept(inception: Callable[..., Path], root: Path) -> None:
    (root / "weights.pth").write_bytes(b"stands for the published weights")
    folder = inception(root / "weights.pth", file_digest(root / "weights.pth"))
    assert describe_extractor(folder)["name"] == "inception-v3"
    assert load_extractor(folder, torch.device("cpu")).features == 2048
