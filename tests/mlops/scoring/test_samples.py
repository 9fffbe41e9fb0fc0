"""Images that are sorted by class are scored and shown as the same images shuffled."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from gan_core.config import ComputeConfig, MlpConfig
from gan_core.generation.generator_file import save_generator
from gan_core.metrics.parzen import ParzenScore
from gan_core.networks.build import build_generator
from mlops.figures.grids import side_by_side
from mlops.project.params import Params
from mlops.project.prepared_data import Split, images_path, labels_path, load_images, load_labels
from mlops.scoring.samples import described, sampled
from mlops.scoring.scorer import Scorer
from stages.evaluate import evaluate
from stages.extractor import extractor

CPU = ComputeConfig("cpu", 1)
SPLITS: tuple[Split, ...] = ("train", "validation", "test")


def labels_of(prepared: Path, split: Split) -> NDArray[np.int64]:
    labels = load_labels(prepared, split)
    assert labels is not None
    return labels


def reordered(prepared: Path, target: Path, order: Callable[[NDArray[np.int64]], NDArray[np.int64]]) -> Path:
    """Copy the validation and test images in another order."""
    shutil.copytree(prepared, target)
    for split in ("validation", "test"):
        images, labels = load_images(prepared, split), labels_of(prepared, split)
        indices = order(labels)
        np.save(images_path(target, split), images[indices])
        np.save(labels_path(target, split), labels[indices])
    return target


@pytest.fixture(scope="module")
def orders(prepared: Path, committed: Params, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Return folders that have the same digits sorted by class and shuffled, each with an extractor and a generator."""
    place, rng = tmp_path_factory.mktemp("orders"), np.random.default_rng(0)
    by_order = {
        "sorted": lambda labels: labels.argsort(kind="stable"),
        "shuffled": lambda labels: rng.permutation(len(labels)),
    }
    network = MlpConfig("mlp", 4, "normal", 8, 8, False, 2, 0.0)
    for name, order in by_order.items():
        folder = place / name
        images = reordered(prepared, folder / "prepared", order)
        extractor(images, folder / "extractor", compute=CPU, extractor=replace(committed.extractor, epochs=3))
        generator = build_generator(network, size=8, channels=1, seed=0)
        save_generator(folder / "generator.safetensors", generator, network, size=8, channels=1)
    return {name: place / name for name in by_order}


def counts(images: NDArray[np.uint8], prepared: Path, split: Split) -> list[int]:
    """Return how many images are of each class, each found again in its split by its pixels."""
    split_images = zip(load_images(prepared, split), labels_of(prepared, split), strict=True)
    known = {image.tobytes(): label for image, label in split_images}
    return [int(count) for count in np.bincount([known[image.tobytes()] for image in images], minlength=10)]


@pytest.mark.parametrize("split", SPLITS)
def test_a_sample_has_the_shares_of_its_classes_whatever_the_order(orders: dict[str, Path], split: Split) -> None:
    found = []
    for folder in orders.values():
        labels = labels_of(folder / "prepared", split)
        indices = sampled(folder / "prepared", split, 50, seed=0, purpose="test")
        found.append(np.bincount(labels[indices.numpy()], minlength=10).tolist())
        assert np.abs(found[-1] - np.bincount(labels) * 50 / len(labels)).max() < 1
    assert found[0] == found[1]


def test_the_kind_and_seed_of_a_sample_are_named_and_of_a_whole_split_there_is_none(
    prepared: Path, tmp_path: Path
) -> None:
    size = len(load_images(prepared, "validation"))
    for count in (size, size + 1):
        assert described(prepared, "validation", count, seed=5) == {"images": size}
    named = {"images": size - 1, "seed": 5}
    assert described(prepared, "validation", size - 1, seed=5) == named | {"sample": "stratified by class"}
    shutil.copy(images_path(prepared, "validation"), images_path(tmp_path, "validation"))
    assert described(tmp_path, "validation", size - 1, seed=5) == named | {"sample": "simple random"}
    without = sampled(tmp_path, "validation", 20, seed=5, purpose="test")
    assert not torch.equal(without, sampled(prepared, "validation", 20, seed=5, purpose="test"))


def test_a_part_of_sorted_real_images_scores_as_a_part_of_shuffled_ones(
    orders: dict[str, Path], committed: Params
) -> None:
    few = replace(committed.evaluate, max_images=100)
    scorers = {name: Scorer(folder / "prepared", folder / "extractor", CPU, few) for name, folder in orders.items()}
    by_order = {name: scorer.real() for name, scorer in scorers.items()}
    for metric in ("fid", "is"):
        assert 0.67 < by_order["sorted"][metric] / by_order["shuffled"][metric] < 1.5
    for name, scorer in scorers.items():
        labels = labels_of(orders[name] / "prepared", "test")
        assert np.abs(np.bincount(labels[scorer.scored.numpy()]) - np.bincount(labels) * 100 / len(labels)).max() < 1
        assert by_order[name]["class_coverage"] == 1


def test_pictures_and_the_parzen_window_have_all_classes_of_sorted_images(
    orders: dict[str, Path], root: Path, committed: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    found: dict[str, list[int]] = {}
    folder = orders["sorted"]
    prepared = folder / "prepared"

    def shown(panels: dict[str, NDArray[np.uint8]], _: list[str]) -> Any:
        assert len(panels["generated"]) == len(panels["real"]) == 100
        found["shown"] = counts(panels["real"], prepared, "test")
        return side_by_side(panels)

    def window(*, validation: torch.Tensor, **_: Any) -> ParzenScore:
        found["validation"] = counts(validation.numpy(), prepared, "validation")
        return ParzenScore(0.0, 1.0, 0.1)

    monkeypatch.setattr("stages.evaluate.side_by_side", shown)
    monkeypatch.setattr("mlops.scoring.scorer.parzen", window)
    monkeypatch.setattr("mlops.scoring.scorer.VALIDATION", 40)
    (root / "replicas").mkdir()
    config = replace(committed.evaluate, banks=2, parzen=True)
    inputs = (prepared, folder / "extractor", folder / "generator.safetensors", root / "replicas")
    evaluate(
        *inputs, root / "evaluation", compute=CPU, execution=committed.execution, train=committed.train, evaluate=config
    )
    for name, split, total in (("shown", "test", 100), ("validation", "validation", 40)):
        of_class = np.bincount(labels_of(prepared, split))  # type: ignore[arg-type]  # one of two splits
        assert (sum(found[name]), len(found[name])) == (total, 10)
        assert np.abs(found[name] - of_class * total / of_class.sum()).max() < 1
