import json
import shutil
from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from gan_core.augmentation.augment import NONE
from gan_core.config import AugmentationConfig, ComputeConfig, MlpConfig, TrainConfig
from mlops.project import params
from mlops.project.identity import file_digest
from mlops.project.params import Params

if TYPE_CHECKING:  # MLflow, pandas and torch take seconds, so fixtures import what needs them
    from mlops.cards.scored_model import ScoredModel
    from mlops.scoring.evaluation import Evaluation

ROOT = Path(__file__).parents[1]
PASSPORT: dict[str, Any] = {
    "extractor": {"name": "digits", "kind": "classifier", "sha256": "e" * 64, "batch_size": 64},
    "resizer": "none: 8 pixels, 1 channels",
    "reference": {"data": "digits", "split": "train", "images": 1206, "dvc_md5": "d" * 32},
    "compared": {"generated": 436, "real": {"split": "test", "images": 436}, "noise": 436},
    "settings": {"seed": 0},
    "libraries": {"torch": "2.14.1"},
    "device": "cpu",
    "threads": 1,
}


@pytest.fixture(scope="session")
def committed() -> Params:
    """Return the committed parameters."""
    return params.load(ROOT / "params.yaml")


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory, committed: Params) -> Path:
    """Return the prepared digits."""
    from stages.fetch import fetch
    from stages.prepare import prepare

    folder = tmp_path_factory.mktemp("digits")
    fetch(folder / "raw", data=committed.data)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DVC_ROOT", str(folder))
        prepare(folder / "raw", folder / "prepared", data=committed.data, prepare=committed.prepare)
    return folder / "prepared"


@pytest.fixture(scope="session")
def tracking_uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return a tracking store for all tests: making one takes seconds."""
    return f"sqlite:///{tmp_path_factory.mktemp('mlflow') / 'mlflow.db'}"


@pytest.fixture
def root(tmp_path: Path, tracking_uri: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return an empty project, which owns checkpoints and tracking."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", tracking_uri)
    return tmp_path


@pytest.fixture
def train_tiny(root: Path, prepared: Path, committed: Params) -> Callable[..., Path]:
    """Return a function that runs the stage `train`, tiny, into a named folder with given changes.

    Unless `kept`, the finished training is deleted, as if DVC had recorded it, so the next one trains again.
    """
    from mlops.runs.kept_work import delete_work
    from stages.train import train

    tiny = replace(committed.train, steps=24, batch_size=8, report_every=4, sample_every=12, checkpoint_every=6)
    tiny = replace(tiny, snapshots=3)
    network = MlpConfig("mlp", 4, "normal", 8, 8, False, 2, 0.2)

    def run(
        name: str,
        doctor: dict[str, Any] | None = None,
        conditional: bool = False,
        augmentation: AugmentationConfig = NONE,
        kept: bool = False,
        **changes: object,
    ) -> Path:
        folder = root / name
        watch = replace(committed.doctor, **({"min_images": 0} | (doctor or {})))  # too few for a verdict otherwise
        config: TrainConfig = replace(tiny, **changes)  # type: ignore[arg-type]  # the names are the caller's
        snapshots, training = folder / "snapshots", folder / "training"
        compute = ComputeConfig("cpu", 1)
        sections = {"compute": compute, "execution": committed.execution, "doctor": watch}
        sections |= {"network": replace(network, conditional=conditional), "augmentation": augmentation}
        train(prepared, snapshots, training, train=config, **sections)  # type: ignore[arg-type]
        if not kept:
            delete_work(root / ".checkpoints" / json.loads((training / "training.json").read_text())["key"])
        shutil.copyfile(max(snapshots.iterdir()), folder / "generator.safetensors")  # as the stage `choose` does
        return folder

    return run


@pytest.fixture(scope="session")
def registered(tmp_path_factory: pytest.TempPathFactory, tracking_uri: str) -> dict[str, str]:
    """Return the names of registered models, each with a champion, by the distribution of their latents.

    That of the third is normal too; it is conditional, of the classes ant, bee and cow.
    """
    from gan_core.generation.generator_file import save_generator
    from gan_core.networks.build import build_generator
    from mlops.tracking.runs import connect
    from mlops.tracking.versions import CHAMPION, WEIGHTS_TAG, add_version

    folder = tmp_path_factory.mktemp("registered")
    network = MlpConfig("mlp", 4, "normal", 32, 8, False, 2, 0.0)
    names = {"normal": "fresh-normal", "uniform": "fresh-uniform", "conditional": "fresh-conditional"}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("DVC_ROOT", str(folder))
        patch.setenv("MLFLOW_TRACKING_URI", tracking_uri)
        client, experiment = connect()
        for kind, name in names.items():
            classes = ["ant", "bee", "cow"] if kind == "conditional" else []
            config = replace(
                network, z_distribution="uniform" if kind == "uniform" else "normal", conditional=bool(classes)
            )
            generator = build_generator(config, size=8, channels=1, classes=len(classes), seed=0)
            for weights in generator.parameters():
                weights.data *= 3  # images with contrast
            save_generator(folder / f"{name}.safetensors", generator, config, size=8, channels=1, classes=classes)
            tags = {WEIGHTS_TAG: file_digest(folder / f"{name}.safetensors")}
            run = client.create_run(experiment).info.run_id
            version = add_version(name, run, folder / f"{name}.safetensors", tags).version
            client.set_registered_model_alias(name, CHAMPION, str(version))
    return names


@pytest.fixture
def every_score() -> "Callable[..., Evaluation]":
    """Return a function that makes up an evaluation with every score, by an extractor's name and trainings."""
    import pandas as pd

    from mlops.scoring.evaluation import LOWER_IS_BETTER, Evaluation, References, summarise

    def made(extractor: str, trainings: int = 1) -> Evaluation:
        passport = PASSPORT | {"extractor": PASSPORT["extractor"] | {"name": extractor}}
        rows = [
            {"training": training, "bank": bank}
            | dict.fromkeys(LOWER_IS_BETTER, 0.0098 + 0.0005 * bank + 0.0001 * training)
            | {"fid": 2.4 + 0.1 * bank + training, "is": 3.1 + 0.1 * bank + training}
            for training in range(trainings)
            for bank in range(8)
        ]
        banks = pd.DataFrame(rows)
        scores = summarise(banks, dict.fromkeys(LOWER_IS_BETTER, -0.0271) | {"fid": 2.0951}, References(26.0, 212.7))
        return Evaluation("it", scores, passport, banks, images=436, few_images=False)

    return made


@pytest.fixture
def made_model(tmp_path: Path) -> "Callable[..., ScoredModel]":
    """Return a function that makes up a scored model, whose banks of z spread by `spread` around its mean FID."""
    import pandas as pd
    from PIL import Image

    from mlops.cards.scored_model import PICTURES, ScoredModel
    from mlops.scoring.evaluation import Evaluation, References, summarise
    from mlops.scoring.evaluation_files import write_evaluation
    from mlops.tracking.versions import TrackedModel

    def made(number: int, fid: float, spread: float = 0.1, trainings: int = 1, passport: Any = None) -> ScoredModel:
        rng = np.random.default_rng(number)
        rows = [
            {"training": training, "bank": bank, "fid": fid + spread * rng.normal(), "is": 7.5}
            for training in range(trainings)
            for bank in range(8)
        ]
        banks, passport = pd.DataFrame(rows), deepcopy(PASSPORT) if passport is None else passport
        scores = summarise(banks, {"fid": 2.0951, "is": 8.3562}, References(26.5, 212.7251))
        evaluation = Evaluation(f"version {number}", scores, passport, banks, images=436, few_images=False)
        folder = tmp_path / f"model-{number}" / "evaluation"
        folder.mkdir(parents=True)
        write_evaluation(evaluation, folder)
        for picture in PICTURES:
            Image.new("L", (60, 30), number).save(folder / picture)
        run_id, tags = "a" * 31 + str(number), {"doctor.verdict": "healthy"}
        return ScoredModel(TrackedModel(run_id, f"run-{number}", str(number), (), tags, {}), evaluation, folder)

    return made
