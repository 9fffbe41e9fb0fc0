from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import gan_core.training.execution
import mlops.runs.run
from gan_core.augmentation.augment import NONE
from gan_core.config import ComputeConfig, ExecutionConfig, MlpConfig, TrainConfig
from gan_core.training.batches import Batches
from gan_core.training.loop import train
from gan_core.training.state import TrainState
from gan_core.training.steps import train_step
from mlops.project.errors import UserError
from mlops.project.params import Params
from mlops.project.prepared_data import load_summary
from mlops.runs.run import TrainingRun, _remedy
from mlops.runs.workspace import Workspace

NETWORK = MlpConfig("mlp", 4, "normal", 8, 8, False, 2, 0.0)


@pytest.fixture
def config(committed: Params) -> TrainConfig:
    return replace(committed.train, steps=4, batch_size=16)


@pytest.fixture
def training_run(root: Path, prepared: Path) -> Callable[..., TrainingRun]:
    def make(*execution: Any, threads: int = 1, stage: str = "train") -> TrainingRun:
        return TrainingRun(
            stage,
            prepared,
            ComputeConfig("cpu", threads),
            ExecutionConfig(*(execution or ("auto", 1, 1))),
            NETWORK,
            NONE,
        )

    return make


def test_the_key_names_what_moves_bits_and_not_how_many_share_the_work(
    training_run: Callable[..., TrainingRun], config: TrainConfig
) -> None:
    keys = {
        "plain": training_run().key(config),
        "fp32": training_run("fp32", 1, 1).key(config),
        "processes": training_run("auto", 4, 1).key(config),
        "bf16": training_run("bf16", 1, 1).key(config),
        "parts": training_run("auto", 1, 2).key(config),
        "seed": training_run().key(replace(config, seed=9)),
        "again": training_run(stage="replicate").key(config),
    }
    assert keys["plain"] == keys["fp32"] == keys["processes"]
    assert len(set(keys.values())) == 5


@pytest.mark.parametrize(("room", "remedy"), [(8, "execution.micro_batches to 2"), (3, "train.batch_size to 2")])
def test_a_batch_that_does_not_fit_is_told_what_would(
    room: int,
    remedy: str,
    training_run: Callable[..., TrainingRun],
    config: TrainConfig,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def in_little_memory(state: TrainState, batches: Batches, step: int) -> torch.Tensor:
        if state.config.batch_size // state.arithmetic.micro_batches > room:
            raise torch.OutOfMemoryError
        return train_step(state, batches, step)

    monkeypatch.setattr(gan_core.training.execution, "train_step", in_little_memory)
    with Workspace("memory") as work, pytest.raises(UserError) as caught:
        for _ in training_run().steps(training_run().state(config, work)):
            pass
    fits = 8 if room == 8 else 2
    assert f"a batch of 16 images does not fit into the memory of the GPU; one of {fits} does" in str(caught.value)
    assert remedy in str(caught.value)


@pytest.mark.parametrize(("batch_size", "tried", "parts"), [(30, 2, 3), (16, 1, 2), (12, 2, 5), (90, 4, 7)])
def test_the_parts_of_the_remedy_divide_the_batch_and_fit(
    batch_size: int, tried: int, parts: int, config: TrainConfig
) -> None:
    remedy = _remedy(replace(config, batch_size=batch_size), tried, parts)
    micro_batches = int(remedy.split("execution.micro_batches to ")[1])
    assert micro_batches > tried
    assert micro_batches >= parts
    assert batch_size % micro_batches == 0


def test_not_even_one_image_fits(
    training_run: Callable[..., TrainingRun], config: TrainConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    def in_no_memory(*_: Any) -> Iterator[Any]:
        raise torch.OutOfMemoryError
        yield

    monkeypatch.setattr(mlops.runs.run, "train", in_no_memory)
    monkeypatch.setattr(mlops.runs.run, "fitting_parts", lambda *_: None)
    with Workspace("memory") as work, pytest.raises(UserError, match="16 images"):
        next(training_run().steps(training_run().state(config, work)))


def test_images_are_mapped_and_not_read(training_run: Callable[..., TrainingRun]) -> None:
    found = training_run()
    places = {line.split()[-1] for line in Path("/proc/self/maps").read_text().splitlines() if ".npy" in line}
    assert {Path(place).name for place in places} >= {"images_train.npy", "images_validation.npy"}
    assert found.images.shape == (found.summary.train, 1, 8, 8)


def test_the_images_that_are_trained_on_are_those_of_the_folder(
    training_run: Callable[..., TrainingRun], prepared: Path, config: TrainConfig
) -> None:
    from mlops.project.prepared_data import load_images

    assert torch.equal(training_run().images, torch.tensor(load_images(prepared, "train")))
    assert torch.equal(training_run().unseen, torch.tensor(load_images(prepared, "validation")))
    with Workspace("same") as work:
        ours, plain = training_run().state(config, work), training_run().state(config, work)
    read = [report.read() for report in training_run().steps(ours)]
    assert read == [report.read() for report in train(plain, torch.tensor(load_images(prepared, "train")))]


def test_conditional_networks_need_labels(root: Path, prepared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    without = replace(load_summary(prepared), classes=None)
    monkeypatch.setattr("mlops.runs.run.load_summary", lambda _: without)
    device, execution = ComputeConfig("cpu", 1), ExecutionConfig("fp32", 1, 1)
    with pytest.raises(UserError, match=r"network\.conditional .* no labels"):
        TrainingRun("train", prepared, device, execution, replace(NETWORK, conditional=True), NONE)
    TrainingRun("train", prepared, device, execution, NETWORK, NONE)
