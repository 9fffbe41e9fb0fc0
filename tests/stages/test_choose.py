"""Which of planted snapshots the stage takes: of digits, with generators that take no training."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from gan_core.config import ComputeConfig, MlpConfig
from gan_core.generation.generate import generate
from gan_core.generation.generator_file import save_generator
from gan_core.networks.build import build_generator
from gan_core.networks.mlp import MlpGenerator
from gan_core.runtime.randomness import stream
from mlops.project.params import ChooseConfig, Params
from mlops.project.prepared_data import load_images
from mlops.project.result_files import snapshot_path
from stages.choose import choose
from stages.extractor import extractor

CPU = ComputeConfig("cpu", 1)
Z = 8
NETWORK = MlpConfig("mlp", Z, "normal", 2 * Z, 8, False, 2, 0.0)
Choose = Callable[..., dict[str, Any]]


@torch.no_grad()
def plant(prepared: Path, path: Path, *, variety: float, seed: int = 0, conditional: bool = False) -> None:
    """Write a generator of images x with logit x = mean + variety * P R z, P the principal components of the digits.

    It needs no training; variety 1 is that of the digits. R is a rotation, so another seed makes other images of the
    same distribution.
    """
    network, classes = replace(NETWORK, conditional=conditional), [*"0123456789"] if conditional else []
    generator = build_generator(network, size=8, channels=1, classes=len(classes), seed=0)
    assert isinstance(generator, MlpGenerator)
    logits = torch.from_numpy(load_images(prepared, "train")).flatten(1).div(255).clamp(1 / 510, 1 - 1 / 510).logit()
    _, deviations, components = torch.linalg.svd(logits - logits.mean(dim=0), full_matrices=False)
    rotation, _ = torch.linalg.qr(torch.randn(Z, Z, generator=stream(seed, "rotation")))
    directions = (components[:Z].T * deviations[:Z] / len(logits) ** 0.5) @ rotation * variety
    first, second, last = (layer for layer in generator.layers if isinstance(layer, torch.nn.Linear))
    both = torch.cat([torch.eye(Z), -torch.eye(Z)])  # of z and -z, the parts above 0
    first.weight.copy_(torch.cat([both, torch.zeros(2 * Z, first.in_features - Z)], dim=1))
    second.weight.copy_(torch.eye(2 * Z))
    last.weight.copy_(torch.cat([directions, -directions], dim=1))
    for layer, bias in ((first, 0.0), (second, 0.0), (last, logits.mean(dim=0))):
        layer.bias.copy_(torch.as_tensor(bias))
    path.parent.mkdir(parents=True, exist_ok=True)
    save_generator(path, generator, network, size=8, channels=1, classes=classes)


@pytest.fixture(scope="module")
def measured(prepared: Path, committed: Params, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return an extractor of the digits."""
    folder = tmp_path_factory.mktemp("measured") / "extractor"
    extractor(prepared, folder, compute=CPU, extractor=replace(committed.extractor, epochs=2))
    return folder


@pytest.fixture
def chosen(prepared: Path, measured: Path, tmp_path: Path) -> Choose:
    """Return a function that chooses among `trained` and `replicated` and returns the content of `choice.json`."""

    def run(checkpoint: str, data: Path = prepared, images: int = 100) -> dict[str, Any]:
        for old in ("replicas", "choice"):
            shutil.rmtree(tmp_path / old, ignore_errors=True)
        inputs = data, measured, tmp_path / "trained", tmp_path / "replicated"
        outputs = tmp_path / "generator.safetensors", tmp_path / "replicas", tmp_path / "choice"
        config = ChooseConfig(checkpoint, images)  # type: ignore[arg-type]  # one of two words
        choose(*inputs, *outputs, compute=CPU, choose=config)
        facts: dict[str, Any] = json.loads((tmp_path / "choice" / "choice.json").read_text())
        return facts

    return run


def test_a_good_one_is_taken_from_a_training_that_collapsed_and_from_its_replicas(
    prepared: Path, tmp_path: Path, chosen: Choose
) -> None:
    for place in ("trained", "replicated/7", "replicated/12"):
        good = 20 if place == "replicated/12" else 10
        for step in (10, 20, 30):
            plant(prepared, snapshot_path(tmp_path / place, step), variety=1.0 if step == good else 0.1)

    def taken(name: str) -> bytes:
        return (tmp_path / name).read_bytes()

    facts = chosen("best")
    assert (facts["step"], facts["trend"]) == (10, "worse")
    assert taken("generator.safetensors") == taken("trained/step_00000010.safetensors")
    assert taken("replicas/7.safetensors") == taken("replicated/7/step_00000010.safetensors")
    assert taken("replicas/12.safetensors") == taken("replicated/12/step_00000020.safetensors")
    assert json.loads(taken("replicas/steps.json")) == {"7": 10, "12": 20}
    facts = chosen("last")
    assert (facts["step"], facts["trend"]) == (30, "worse")
    assert taken("generator.safetensors") == taken("trained/step_00000030.safetensors")
    assert taken("replicas/7.safetensors") == taken("replicated/7/step_00000030.safetensors")


def test_of_equally_good_ones_the_last_is_taken(prepared: Path, tmp_path: Path, chosen: Choose) -> None:
    for seed, step in enumerate((10, 20, 30)):
        plant(prepared, snapshot_path(tmp_path / "trained", step), variety=1.0, seed=seed)
    shutil.copyfile(*(snapshot_path(tmp_path / "trained", step) for step in (20, 30)))
    facts = chosen("best")
    assert facts["step"] == 30
    rows = (tmp_path / "choice" / "snapshots.csv").read_text().splitlines()
    assert rows[0] == "step,kid_digits,above_last,low,high"
    assert [row.split(",")[0] for row in rows[1:]] == ["10", "20", "30"]
    assert rows[2].split(",")[1:] == rows[3].split(",")[1:]
    assert rows[3].split(",")[2:] == ["0.0"] * 3


def test_neither_test_images_nor_more_validation_images_than_asked_for_are_read(
    prepared: Path, tmp_path: Path, chosen: Choose, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(prepared, snapshot_path(tmp_path / "trained", 10), variety=1.0)
    plant(prepared, snapshot_path(tmp_path / "trained", 20), variety=1.0, seed=1)
    facts, rows = chosen("best"), (tmp_path / "choice" / "snapshots.csv").read_bytes()
    shutil.copytree(prepared, tmp_path / "without")
    for path in (tmp_path / "without").glob("*test*"):
        path.unlink()
    assert sum(1 for _ in (tmp_path / "without").iterdir()) < sum(1 for _ in prepared.iterdir())
    assert chosen("best", tmp_path / "without") == facts
    assert (tmp_path / "choice" / "snapshots.csv").read_bytes() == rows
    assert facts["real_images"] == 100 < len(load_images(prepared, "validation"))


def test_conditional_ones_are_asked_for_the_classes_of_the_real_images(
    prepared: Path, tmp_path: Path, chosen: Choose, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = list[torch.Tensor]()

    def generated(network: torch.nn.Module, z: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        asked.append(labels)
        return generate(network, z, labels)

    monkeypatch.setattr("mlops.scoring.choice.generate", generated)
    for step in (10, 20):
        plant(prepared, snapshot_path(tmp_path / "trained", step), variety=1.0, conditional=True)
    chosen("last")
    assert asked[0].unique().tolist() == list(range(10))
    assert torch.equal(asked[0], asked[1])
