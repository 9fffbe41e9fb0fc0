import errno
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from gan_core.config import AdaConfig, AugmentationConfig, NetworkConfig, Schedule, TrainConfig
from gan_core.training.batches import Batches
from gan_core.training.checkpoints import (
    CheckpointError,
    CheckpointMismatchError,
    checkpoint_metadata,
    restore_checkpoint,
    save_checkpoint,
)
from gan_core.training.loop import NonFiniteLossError, train
from tests.gan_core.examples import (
    ADAPTIVE,
    DCGAN,
    IMAGES,
    MLP,
    POLICY,
    TRAIN,
    all_networks,
    batches,
    everything,
    families,
    fresh,
    random_pixels,
    same_bits,
    trained,
)


def stop_at(config: TrainConfig, network: NetworkConfig, path: Path, step: int) -> None:
    state = fresh(config, network)
    for report in train(state, batches(state)):
        if report.step == step:
            break
    assert state.step == step
    before = everything(state)
    save_checkpoint(path, state)
    assert same_bits(everything(state), before)


SCHEDULED: dict[str, Any] = {
    "penalty_gradient": "finite_difference",
    "r1_gamma": Schedule(0.5, 0.1, "cosine", 64),
    "beta2": Schedule(0.8, 0.9, "linear", None),
    "ema_half_life": Schedule(0.0, 50.0, "cosine", 32),
}


@pytest.mark.parametrize("step", [1, 2, 5, 6])
@pytest.mark.parametrize(("loss", "more"), [("non_saturating", {}), ("relativistic", SCHEDULED)])
@all_networks
def test_stopping_and_going_on_equals_never_stopping(
    network: NetworkConfig, loss: Any, more: dict[str, Any], step: int, tmp_path: Path
) -> None:
    config = replace(TRAIN, loss=loss, class_balance="uniform", **more)
    never_stopped = fresh(config, network)
    reports = [report.read() for report in train(never_stopped, batches(never_stopped))]
    stop_at(config, network, tmp_path / "checkpoint", step)

    torch.manual_seed(step)  # whatever other code did to torch's own generator in between
    state = fresh(config, network)
    restore_checkpoint(tmp_path / "checkpoint", state)
    assert state.step == step
    assert [report.read() for report in train(state, batches(state))] == reports[step:]
    assert same_bits(everything(state), everything(never_stopped))


@pytest.mark.parametrize("augmentation", [POLICY, ADAPTIVE], ids=["diffaugment", "ada"])
@families
def test_an_augmented_training_goes_on_bit_for_bit(
    network: NetworkConfig, augmentation: AugmentationConfig, tmp_path: Path
) -> None:
    """With mirror images and shared latents; the probability rises at steps 4 and 8, before and after the stop."""
    config = replace(TRAIN, steps=10, mirror=True, generator_z="shared")
    if isinstance(augmentation, AdaConfig):
        augmentation = replace(augmentation, target=0.0)
    states = [fresh(config, network, augmentation=augmentation) for _ in range(3)]
    for state in states:
        state.augment_probability.fill_(0.5)
    unseen = random_pixels(30, seed=4)
    for report in train(states[0], Batches(states[0], IMAGES, unseen=unseen)):
        if report.step == 6:
            save_checkpoint(tmp_path / "checkpoint", states[0])
            restore_checkpoint(tmp_path / "checkpoint", states[1])
    list(train(states[1], Batches(states[1], IMAGES, unseen=unseen)))
    assert same_bits(everything(states[1]), everything(states[0]))
    list(train(states[2], Batches(states[2], IMAGES, unseen=unseen)))
    assert same_bits(everything(states[2]), everything(states[0]))


def test_another_augmentation_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint"
    save_checkpoint(path, fresh(TRAIN, MLP, augmentation=ADAPTIVE))
    with pytest.raises(CheckpointMismatchError, match=r"augmentation\.target was 0\.6 and is 0\.5"):
        restore_checkpoint(path, fresh(TRAIN, MLP, augmentation=replace(ADAPTIVE, target=0.5)))
    with pytest.raises(CheckpointMismatchError, match=r"augmentation\.kind was ada and is none"):
        restore_checkpoint(path, fresh(TRAIN, MLP))


def test_a_run_that_stops_after_each_step_equals_one_that_never_stops(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint"
    save_checkpoint(path, fresh(TRAIN, DCGAN))
    for step in range(1, TRAIN.steps + 1):
        state = fresh(TRAIN, DCGAN)
        restore_checkpoint(path, state)
        assert next(train(state, IMAGES)).step == step
        save_checkpoint(path, state)
    assert same_bits(everything(state), everything(trained(TRAIN, DCGAN, IMAGES)))


def test_a_checkpoint_of_other_parameters_is_refused_with_each_difference(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint"
    stop_at(TRAIN, MLP, path, 2)
    other = replace(TRAIN, beta2=0.95)
    state = fresh(other, replace(MLP, dropout=0.1))
    before = everything(state)
    with pytest.raises(CheckpointMismatchError) as caught:
        restore_checkpoint(path, state)
    message = str(caught.value)
    assert "network.dropout was 0.3 and is 0.1" in message
    assert "train.beta2 was 0.9 and is 0.95" in message
    assert message.count(" was ") == 3  # the third is the sentence's own verb
    assert str(path) in message
    assert same_bits(everything(state), before)


def test_no_bit_can_flip_unnoticed_and_no_byte_be_lost(tmp_path: Path) -> None:
    path, state = tmp_path / "checkpoint", fresh(TRAIN, MLP)
    stop_at(TRAIN, MLP, path, 2)
    before, sound = everything(state), path.read_bytes()
    header = 8 + int.from_bytes(sound[:8], "little")
    flipped = [(place, 1 << place % 8) for place in (*range(0, header, 7), *range(header, len(sound), 99))]
    damaged = [sound[:place] + bytes([sound[place] ^ bit]) + sound[place + 1 :] for place, bit in flipped]
    damaged += [sound[:length] for length in (0, 7, 8, 100, header, len(sound) - 1)]
    for content in (*damaged, sound + b"0", bytes(len(sound))):
        path.write_bytes(content)
        with pytest.raises(CheckpointError, match=str(path)):
            restore_checkpoint(path, state)
    path.unlink()
    with pytest.raises(CheckpointError, match=str(path)):
        checkpoint_metadata(path)
    assert same_bits(everything(state), before)


def test_a_record_comes_back_and_may_refuse_the_checkpoint(tmp_path: Path) -> None:
    path, record = tmp_path / "checkpoint", {"files": {"a": [3, "0" * 64]}, "seconds": 0.1}
    save_checkpoint(path, trained(TRAIN, MLP, IMAGES), record)
    assert checkpoint_metadata(path)["record"] == record
    state, seen = fresh(TRAIN, MLP), []

    def refuse(record: dict[str, Any]) -> None:
        seen.append(record)
        raise CheckpointError("no")

    with pytest.raises(CheckpointError, match="no"):
        restore_checkpoint(path, state, refuse)
    assert seen == [record]
    assert same_bits(everything(state), everything(fresh(TRAIN, MLP)))


@pytest.mark.parametrize("section", ["train", "network"])
def test_no_parameter_may_differ(section: str, tmp_path: Path) -> None:
    path = tmp_path / "checkpoint"
    save_checkpoint(path, fresh(TRAIN, MLP))
    changes: dict[str, dict[str, Any]] = {
        "train": {name: value / 2 for name, value in vars(TRAIN).items() if isinstance(value, float)}
        | {name: value + 1 for name, value in vars(TRAIN).items() if isinstance(value, int)}
        | {"loss": "minimax", "generator_z": "shared", "ema_half_life": 1.0, "mirror": True}
        | {"class_balance": "uniform", "penalty_gradient": "finite_difference", "wgan_gp": 1.0}
        | {"generator_learning_rate": 1.0, "discriminator_learning_rate": 1.0},
        "network": {"maxout_pieces": 4, "z_distribution": "uniform", "z_dim": 6, "generator_width": 13}
        | {"dropout": 0.0, "discriminator_width": 11, "conditional": True},
    }
    assert set(changes[section]) == set(vars(TRAIN if section == "train" else MLP)) - {"family"}
    for name, value in changes[section].items():
        config = replace(TRAIN, **{name: value}) if section == "train" else TRAIN
        network = replace(MLP, **{name: value}) if section == "network" else MLP
        with pytest.raises(CheckpointMismatchError, match=rf"{section}\.{name} was .* and is {value}"):
            restore_checkpoint(path, fresh(config, network))


def test_another_family_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint"
    save_checkpoint(path, fresh(TRAIN, MLP))
    with pytest.raises(CheckpointMismatchError, match=r"network\.family was mlp and is dcgan"):
        restore_checkpoint(path, fresh(TRAIN, DCGAN))


def test_a_step_that_was_not_finite_is_recorded(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint"
    state = fresh(TRAIN, MLP)
    next(iter(state.generator.parameters())).data.fill_(torch.nan)
    next(train(state, IMAGES))
    save_checkpoint(path, state)
    resumed = fresh(TRAIN, MLP)
    restore_checkpoint(path, resumed)
    with pytest.raises(NonFiniteLossError) as caught:
        next(train(resumed, IMAGES)).read()
    assert caught.value.step == 1


def test_a_full_disk_leaves_the_old_file_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "checkpoint"
    stop_at(TRAIN, MLP, path, 1)
    old = path.read_bytes()
    state = trained(TRAIN, MLP, IMAGES)

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError) as caught:  # noqa: PT011  # its number is compared
        save_checkpoint(path, state)
    assert caught.value.errno == errno.ENOSPC
    assert path.read_bytes() == old
    assert list(tmp_path.iterdir()) == [path]
