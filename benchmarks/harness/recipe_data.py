"""Images of a path, prepared once at one size for recipes that are compared, and the recipes as checked parameters."""

import hashlib
import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from ruamel.yaml import YAML

from mlops.advice.settings import PRESET
from mlops.images.published import TRAIN_IMAGES
from mlops.project import params
from mlops.project.errors import UserError
from mlops.project.identity import dvc_md5
from mlops.project.params import Params
from mlops.project.prepared_data import (
    UNLABELLED,
    Split,
    images_path,
    labels_path,
    load_images,
    load_labels,
    load_summary,
    save_summary,
)
from mlops.project.presets import PRESETS, defaults, dumped, patch
from mlops.safety.source_digest import source_sha256
from mlops.scoring.samples import sampled
from stages.extractor import extractor
from stages.fetch import fetch
from stages.prepare import prepare

CANDIDATES = Path("benchmarks/candidates.yaml")
"""Changes of the preset for own images, by name: what it is chosen from."""
EXTRACTOR = {"kind": "auto", "epochs": 3, "batch_size": 128}


@dataclass(frozen=True)
class Data:
    """Prepared images and the extractor by which they are scored; `md5` is that of the images."""

    prepared: Path
    extractor: Path
    md5: str


def data_values(path: Path | None, *, size: int, threads: int) -> dict[str, Any]:
    """Return what of `params.yaml` the images and the machine decide, whatever the recipe.

    Without a path they are MNIST's, to be downloaded.
    """
    is_mnist = path is None or any((path / f"{TRAIN_IMAGES}{packed}").is_file() for packed in ("", ".gz"))
    kind = ("mnist", 1) if is_mnist else ("folder", 3)
    return {
        "compute": {"threads": threads},
        "data": {"name": kind[0], "path": None if path is None else str(path.resolve())},
        "prepare": {"image_size": size, "channels": kind[1], "test_share": 0.2, "validation_share": 0.1},
        "extractor": EXTRACTOR,
    }


def recipe(name: str, values: Mapping[str, Any], place: Path) -> Params:
    """Return the parameters of a preset, a candidate or a file with changes, on given data; written to `place`.

    If there is no such recipe, or it does not fit the data, that is a UserError.
    """
    yaml = YAML(typ="safe")
    candidates = yaml.load(CANDIDATES)
    files = [path for path in (Path(name), PRESETS / f"{name}.yaml") if path.suffix == ".yaml" and path.is_file()]
    if not files and name not in candidates:
        raise UserError(f"there is no recipe {name}; name a preset, one of {CANDIDATES}, or the path of a patch")
    all_values = defaults()
    for changes in (yaml.load(files[0] if files else PRESETS / f"{PRESET}.yaml"), candidates.get(name, {}), values):
        patch(all_values, changes)
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(dumped(all_values, name), encoding="utf-8")
    return params.load(place)


def prepared_data(place: Path, base: Params, train_images: int | None) -> Data:
    """Return images and extractor, made in a folder below `place` unless they are there.

    With `train_images` a sample of so many images is trained on, and the other training images are held out as well.
    """
    source = base.data.name if base.data.path is None else source_sha256(Path(base.data.path))
    named = [source, base.prepare.image_size, base.prepare.channels, train_images]
    folder = place / hashlib.sha256(json.dumps(named).encode()).hexdigest()[:8]
    if not (folder / "extractor").exists():
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        fetch(folder / "raw", data=base.data)
        whole = folder / ("prepared" if train_images is None else "whole")
        prepare(folder / "raw", whole, data=base.data, prepare=base.prepare)
        if train_images is not None:
            _with_fewer(whole, folder / "prepared", train_images)
        made = folder / "being made"
        extractor(folder / "prepared", made, compute=base.compute, extractor=base.extractor)
        made.rename(folder / "extractor")
    return Data(folder / "prepared", folder / "extractor", dvc_md5(folder / "prepared"))


def check_labels(data: Data, name: str, recipe: Params) -> None:
    """Refuse conditional networks for images without labels."""
    if recipe.network.conditional and load_summary(data.prepared).classes is None:
        raise UserError(f"{name}: {UNLABELLED}")


def _with_fewer(whole: Path, prepared: Path, count: int) -> None:
    """Write prepared images of which a sample of the training split stays there and the rest joins the test split."""
    summary = load_summary(whole)
    if count >= summary.train:
        raise UserError(f"there are {summary.train:,} training images, not more than {count:,}; choose a lower number")
    kept = sampled(whole, "train", count, seed=0, purpose="fewer training images").numpy()
    rest = np.setdiff1d(np.arange(summary.train), kept)
    prepared.mkdir()
    splits: tuple[Split, ...] = ("train", "validation", "test")
    for load, path_of in ((load_images, images_path), (load_labels, labels_path)):
        train, validation, test = (load(whole, split) for split in splits)
        if train is not None and validation is not None and test is not None:
            parts = (train[kept], validation, np.concatenate([test, train[rest]]))
            for split, part in zip(splits, parts, strict=True):
                np.save(path_of(prepared, split), part)
    save_summary(prepared, replace(summary, train=count, test=summary.test + len(rest)))
