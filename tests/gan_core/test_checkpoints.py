import errno
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from gan_core.checkpoints import (
    CheckpointMismatchError,
    load_generator,
    load_tensors,
    restore_checkpoint,
    save_checkpoint,
    save_generator,
    save_tensors,
    write_atomically,
)
from gan_core.config import NetworkConfig, TrainConfig
from gan_core.sampling import generate, z_bank
from gan_core.training import NonFiniteLossError, train
from tests.gan_core.examples import (
    DCGAN,
    MLP,
    NETWORKS,
    SIZE,
    TRAIN,
    everything,
    fresh,
    random_pixels,
    same_bits,
    snapshot,
    trained,
)

IMAGES = random_pixels(40)
families = pytest.mark.parametrize("network", NETWORKS, ids=["mlp", "dcgan"])


def stop_at(config: TrainConfig, network: NetworkConfig, path: Path, step: int) -> None:
    state = fresh(config, network)
    for report in train(config, state, IMAGES):
        if report.step == step:
            break
    assert state.step == step
    before = everything(state)
    save_checkpoint(path, state, config)
    assert same_bits(everything(state), before)


@pytest.mark.parametrize("step", [1, 2, 5, 6])
@pytest.mark.parametrize("loss", ["non_saturating", "relativistic"])
@families
def test_stopping_and_going_on_equals_never_stopping(
    network: NetworkConfig, loss: Any, step: int, tmp_path: Path
) -> None:
    config = replace(TRAIN, loss=loss)
    never_stopped = fresh(config, network)
    reports = [report.read() for report in train(config, never_stopped, IMAGES)]
    stop_at(config, network, tmp_path / "checkpoint", step)

    torch.manual_seed(step)  # whatever other code did to torch's own generator in between
    state = fresh(config, network)
    restore_checkpoint(tmp_path / "checkpoint", state, config)
    assert state.step == step
    assert [report.read() for report in train(config, state, IMAGES)] == reports[step:]
    assert same_bits(everything(state), everything(never_stopped))


def test_a_run_that_stops_after_each_step_equals_one_that_never_stops(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint"
    save_checkpoint(path, fresh(TRAIN, DCGAN), TRAIN)
    for step in range(1, TRAIN.steps + 1):
        state = fresh(TRAIN, DCGAN)
        restore_checkpoint(path, state, TRAIN)
        assert next(train(TRAIN, state, IMAGES)).step == step
        save_checkpoint(path, state, TRAIN)
    assert same_bits(everything(state), everything(trained(TRAIN, DCGAN, IMAGES)))


def test_a_checkpoint_of_other_parameters_is_refused_with_each_difference(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint"
    stop_at(TRAIN, MLP, path, 2)
    other = replace(TRAIN, beta2=0.95)
    network = replace(MLP, dropout=0.1)
    state = fresh(other, network)
    before = everything(state)
    with pytest.raises(CheckpointMismatchError) as caught:
        restore_checkpoint(path, state, other)
    message = str(caught.value)
    assert "network.dropout was 0.3 and is 0.1" in message
    assert "train.beta2 was 0.9 and is 0.95" in message
    assert message.count(" was ") == 3  # the third is the sentence's own verb
    assert str(path) in message
    assert same_bits(everything(state), before)


@pytest.mark.parametrize("section", ["train", "network"])
def test_no_parameter_may_differ(section: str, tmp_path: Path) -> None:
    path = tmp_path / "checkpoint"
    save_checkpoint(path, fresh(TRAIN, MLP), TRAIN)
    changes: dict[str, dict[str, Any]] = {
        "train": {name: getattr(TRAIN, name) / 2 for name in vars(TRAIN) if name not in ("loss", "learning_rate_decay")}
        | {"loss": "minimax", "learning_rate_decay": "none"},
        "network": {"maxout_pieces": 4, "z_distribution": "uniform", "z_dim": 6, "generator_width": 13}
        | {"family": "dcgan", "dropout": 0.0, "discriminator_width": 11},
    }
    assert set(changes[section]) == set(vars(TRAIN if section == "train" else MLP))
    for name, value in changes[section].items():
        config = replace(TRAIN, **{name: value}) if section == "train" else TRAIN
        network = replace(MLP, **{name: value}) if section == "network" else MLP
        with pytest.raises(CheckpointMismatchError, match=rf"{section}\.{name} was .* and is {value}"):
            restore_checkpoint(path, fresh(TRAIN, network), config)


def test_a_step_that_was_not_finite_is_remembered(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint"
    state = fresh(TRAIN, MLP)
    next(iter(state.generator.parameters())).data.fill_(torch.nan)
    next(train(TRAIN, state, IMAGES))
    save_checkpoint(path, state, TRAIN)
    resumed = fresh(TRAIN, MLP)
    restore_checkpoint(path, resumed, TRAIN)
    with pytest.raises(NonFiniteLossError, match="at step 1;"):
        next(train(TRAIN, resumed, IMAGES)).read()


def test_the_same_seed_writes_the_same_bytes_and_another_does_not(tmp_path: Path) -> None:
    for network in NETWORKS:
        written: list[bytes] = []
        for seed in (7, 7, 8):
            torch.manual_seed(len(written))
            state = trained(replace(TRAIN, seed=seed), network, IMAGES)
            path = tmp_path / "generator.safetensors"
            save_generator(path, state.ema_generator, network, size=SIZE, channels=1)
            written.append(path.read_bytes())
        assert written[0] == written[1]
        assert written[0] != written[2]


@families
def test_a_generator_comes_back_whole(network: NetworkConfig, tmp_path: Path) -> None:
    generator = trained(TRAIN, network, IMAGES).generator.train()
    save_generator(tmp_path / "g", generator, network, size=SIZE, channels=1)
    assert generator.training
    loaded, loaded_network = load_generator(tmp_path / "g")
    assert loaded_network == network
    assert not loaded.training
    assert same_bits(snapshot(loaded), snapshot(generator))
    z = z_bank(network, seed=0, count=3)
    assert torch.equal(generate(loaded, z), generate(generator, z))


def test_size_and_channels_come_back_too(tmp_path: Path) -> None:
    generator = fresh(TRAIN, DCGAN, channels=3).generator
    save_generator(tmp_path / "g", generator, DCGAN, size=SIZE, channels=3)
    assert generate(load_generator(tmp_path / "g")[0], z_bank(DCGAN, seed=0, count=2)).shape == (2, 3, SIZE, SIZE)


def test_tensors_and_metadata_survive_the_round_trip(tmp_path: Path) -> None:
    tensors = {
        "float": torch.tensor([0.1, -0.0, torch.inf]),
        "double": torch.tensor([0.1], dtype=torch.float64),
        "int": torch.tensor(2**40),
        "bytes": torch.arange(6, dtype=torch.uint8).reshape(2, 3).T,
        "weight": torch.nn.Parameter(torch.ones(2)),
    }
    metadata = {"b": [1, None, "ü"], "a": {"x": 0.1, "y": 1e-300}}
    save_tensors(tmp_path / "t", tensors, metadata)
    found, found_metadata = load_tensors(tmp_path / "t")
    assert found_metadata == metadata
    assert same_bits(found, tensors)
    assert {name: tensor.dtype for name, tensor in found.items()} == {n: tensor.dtype for n, tensor in tensors.items()}
    save_tensors(tmp_path / "u", tensors, dict(reversed(metadata.items())))
    assert (tmp_path / "u").read_bytes() == (tmp_path / "t").read_bytes()


def test_a_full_disk_leaves_the_old_file_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "checkpoint"
    stop_at(TRAIN, MLP, path, 1)
    old = path.read_bytes()
    state = trained(TRAIN, MLP, IMAGES)

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        save_checkpoint(path, state, TRAIN)
    assert path.read_bytes() == old
    assert list(tmp_path.iterdir()) == [path]


def test_content_is_on_the_disk_before_it_takes_the_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    sync = os.fsync
    seen = []

    def recorded(descriptor: int) -> None:
        inode = os.fstat(descriptor).st_ino
        (target,) = (found for found in (tmp_path, *tmp_path.iterdir()) if found.stat().st_ino == inode)
        seen.append((target, target.read_bytes() if target.is_file() else b"folder", path.read_bytes()))
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", recorded)
    write_atomically(path, b"new content")
    (temporary, written, at_first), folder = seen
    assert temporary.parent == tmp_path
    assert temporary != path
    assert (written, at_first) == (b"new content", b"old")
    assert folder == (tmp_path, b"folder", b"new content")
    assert list(tmp_path.iterdir()) == [path]
