import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gan_core.augmentation.augment import NONE
from gan_core.config import ComputeConfig, ExecutionConfig, MlpConfig, TrainConfig
from gan_core.training.state import TrainState
from mlops.project.errors import UserError
from mlops.project.params import Params, ReplicateConfig
from mlops.runs.kept_work import MADE, delete_work
from mlops.runs.workspace import Workspace
from stages.replicate import replicate

CPU = ComputeConfig("cpu", 1)
PLAIN = ExecutionConfig("auto", 1, 1)
NETWORK = MlpConfig("mlp", 4, "normal", 8, 8, False, 2, 0.2)
Retrain = Callable[..., dict[str, bytes]]


@pytest.fixture
def tiny(committed: Params) -> TrainConfig:
    return replace(
        committed.train, steps=24, batch_size=8, report_every=4, sample_every=12, checkpoint_every=6, snapshots=3
    )


@pytest.fixture
def again(root: Path, prepared: Path, tiny: TrainConfig) -> Retrain:
    """Return a function that trains again and returns the generators by file name."""

    def run(folder: str, seeds: int, kept: bool = False, **changes: Any) -> dict[str, bytes]:
        options = {
            "network": NETWORK,
            "augmentation": NONE,
            "train": replace(tiny, **changes),
            "replicate": ReplicateConfig(seeds),
        }
        replicate(prepared, root / folder, compute=CPU, execution=PLAIN, **options)  # type: ignore[arg-type]
        for note in () if kept else (root / ".checkpoints").glob(f"*/{MADE}"):
            delete_work(note.parent)  # as if DVC had recorded what was made
        files = (root / folder).glob("*/*.safetensors")
        return {path.relative_to(root / folder).as_posix(): path.read_bytes() for path in files}

    return run


def test_no_seeds_are_no_generators(again: Retrain, root: Path) -> None:
    assert again("none", 0) == {}
    assert json.loads((root / "none" / "seeds.json").read_text()) == {"seeds": []}


def test_each_is_what_train_makes_of_that_seed(again: Retrain, train_tiny: Callable[..., Path], root: Path) -> None:
    found = again("three", 3, seed=25)
    steps = [f"step_{step:08}.safetensors" for step in (8, 16, 24)]
    assert sorted(found) == [f"{seed}/{step}" for seed in (26, 27, 28) for step in steps]
    assert json.loads((root / "three" / "seeds.json").read_text()) == {"seeds": [26, 27, 28]}
    folder = train_tiny("again", seed=27) / "snapshots"
    assert [found[f"27/{step}"] for step in steps] == [(folder / step).read_bytes() for step in steps]
    assert len(set(found.values())) == 9


def test_a_stopped_one_goes_on_to_the_same_bytes(again: Retrain, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = again("whole", 2)
    saved: list[int] = []
    save_checkpoint = Workspace.save

    def save(work: Workspace, state: TrainState) -> None:
        save_checkpoint(work, state)
        saved.append(state.step)
        if saved == [6, 12, 18, 24, 6, 12]:  # in the middle of the second
            raise KeyboardInterrupt

    monkeypatch.setattr(Workspace, "save", save)
    with pytest.raises(KeyboardInterrupt):
        again("stopped", 2)
    assert not (root / "stopped").exists()
    assert again("stopped", 2) == whole
    assert saved == [6, 12, 18, 24, 6, 12, 18, 24]


def test_finished_ones_are_not_trained_again_as_long_as_dvc_has_not_recorded_them(
    again: Retrain, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = again("whole", 2, kept=True)
    monkeypatch.setattr("gan_core.training.execution.train_step", lambda *_: pytest.fail("a step is computed"))
    assert again("again", 2) == whole


def test_a_loss_that_is_not_finite_names_the_seed(again: Retrain) -> None:
    with pytest.raises(UserError, match=r"train\.seed 1 .*step"):
        again("broken", 1, generator_learning_rate=1e30, discriminator_learning_rate=1e30)
