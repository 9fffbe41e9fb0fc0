from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gan_core.config import ComputeConfig, NetworkConfig, TrainConfig
from gan_core.networks import build_generator
from gan_core.weights import save_generator
from stages import params
from stages.fetch import fetch
from stages.lineage import file_digest
from stages.params import Params
from stages.prepare import prepare
from stages.registry import CHAMPION, WEIGHTS_TAG, add_version
from stages.tracking import connect

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def committed() -> Params:
    """Return the committed parameters."""
    return params.load(ROOT / "params.yaml")


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory, committed: Params) -> Path:
    """Return the prepared digits."""
    folder = tmp_path_factory.mktemp("digits")
    fetch(folder / "raw", data=committed.data)
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
    """Return a function that runs the stage `train`, tiny, into a named folder with given changes."""
    from stages.train import train

    tiny = replace(committed.train, steps=24, batch_size=8, report_every=4, sample_every=12, checkpoint_every=6)
    network = NetworkConfig("mlp", 4, "normal", 8, 8, 2, 0.2)

    def run(name: str, doctor: dict[str, Any] | None = None, **changes: object) -> Path:
        folder = root / name
        watch = replace(committed.doctor, **(doctor or {}))
        config: TrainConfig = replace(tiny, **changes)  # type: ignore[arg-type]  # the names are the caller's
        generator, training = folder / "generator.safetensors", folder / "training"
        compute = ComputeConfig("cpu", 1)
        train(prepared, generator, training, compute=compute, network=network, train=config, doctor=watch)
        return folder

    return run


@pytest.fixture(scope="session")
def registered(tmp_path_factory: pytest.TempPathFactory, tracking_uri: str) -> dict[str, str]:
    """Return the names of registered models, each with a champion, by the distribution of their latents."""
    folder = tmp_path_factory.mktemp("registered")
    network = NetworkConfig("mlp", 4, "normal", 32, 8, 2, 0.0)
    names = {"normal": "fresh-normal", "uniform": "fresh-uniform"}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("DVC_ROOT", str(folder))
        patch.setenv("MLFLOW_TRACKING_URI", tracking_uri)
        client, experiment = connect()
        for distribution, name in names.items():
            config = replace(network, z_distribution=distribution)  # type: ignore[arg-type]  # one of both words
            generator = build_generator(config, size=8, channels=1, seed=0)
            for weights in generator.parameters():
                weights.data *= 3  # images with contrast
            save_generator(folder / f"{name}.safetensors", generator, config, size=8, channels=1)
            tags = {WEIGHTS_TAG: file_digest(folder / f"{name}.safetensors")}
            run = client.create_run(experiment).info.run_id
            version = add_version(name, run, folder / f"{name}.safetensors", tags).version
            client.set_registered_model_alias(name, CHAMPION, str(version))
    return names
