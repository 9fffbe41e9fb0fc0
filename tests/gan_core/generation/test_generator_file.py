from dataclasses import asdict, replace
from pathlib import Path

import torch

from gan_core.config import NetworkConfig
from gan_core.generation.generate import generate
from gan_core.generation.generator_file import load_generator, save_generator
from gan_core.generation.latents import z_bank
from gan_core.runtime.tensor_files import load_tensors, save_tensors
from tests.gan_core.examples import (
    DCGAN,
    IMAGES,
    NETWORKS,
    SIZE,
    TRAIN,
    conditional,
    families,
    fresh,
    same_bits,
    snapshot,
    trained,
)


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
    loaded, loaded_network, _ = load_generator(tmp_path / "g")
    assert loaded_network == network
    assert not loaded.training
    assert same_bits(snapshot(loaded), snapshot(generator))
    z = z_bank(network, seed=0, count=3)
    assert torch.equal(generate(loaded, z), generate(generator, z))


def test_keys_of_other_families_in_older_files_are_ignored(tmp_path: Path) -> None:
    """Before families had configurations of their own, every file held those of `mlp`."""
    generator = trained(TRAIN, DCGAN, IMAGES).generator
    network = asdict(DCGAN) | {"maxout_pieces": 1, "dropout": 0.0}
    metadata = {"network": network, "size": SIZE, "channels": 1}
    save_tensors(tmp_path / "g", dict(generator.state_dict()), metadata)
    loaded, loaded_network, _ = load_generator(tmp_path / "g")
    assert loaded_network == DCGAN
    assert same_bits(snapshot(loaded), snapshot(generator))


def test_size_and_channels_come_back_too(tmp_path: Path) -> None:
    generator = fresh(TRAIN, DCGAN, channels=3).generator
    save_generator(tmp_path / "g", generator, DCGAN, size=SIZE, channels=3)
    assert generate(load_generator(tmp_path / "g")[0], z_bank(DCGAN, seed=0, count=2)).shape == (2, 3, SIZE, SIZE)


@conditional
def test_a_conditional_generator_comes_back_with_the_names_of_its_classes(
    network: NetworkConfig, tmp_path: Path
) -> None:
    generator = trained(TRAIN, network, IMAGES).generator
    save_generator(tmp_path / "g", generator, network, size=SIZE, channels=1, classes=["ant", "bee", "cow"])
    loaded = load_generator(tmp_path / "g")
    assert (loaded.config, loaded.classes) == (network, ("ant", "bee", "cow"))
    z, labels = z_bank(network, seed=0, count=70), torch.arange(70) % 3
    images = generate(loaded.network, z, labels)
    assert torch.equal(images, generate(generator, z, labels))
    # An image depends on its own z and label alone, however many are generated with it.
    assert torch.equal(generate(generator, z[5:9], labels[5:9]), images[5:9])
    assert not torch.equal(generate(generator, z, labels.flip(0)), images)


def test_a_file_without_classes_has_no_word_of_them(tmp_path: Path) -> None:
    """So generators of before are read as they are, and those of now have the bytes of before."""
    save_generator(tmp_path / "g", fresh(TRAIN, DCGAN).generator, DCGAN, size=SIZE, channels=1)
    _, metadata = load_tensors(tmp_path / "g")
    assert set(metadata) == {"network", "size", "channels"}
    assert "conditional" not in metadata["network"]
