import copy
import re
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from gan_core.config import DcganConfig, Schedule
from mlops.project.errors import UserError
from mlops.project.params import load

COMMITTED: dict[str, Any] = yaml.safe_load((Path(__file__).parents[3] / "params.yaml").read_text())


def complaint(tmp_path: Path, section: str, **changes: Any) -> str:
    """Return what `load` says of the committed parameters with some values changed; `...` removes a key."""
    values = copy.deepcopy(COMMITTED)
    values[section] |= changes
    values[section] = {key: value for key, value in values[section].items() if value is not ...}
    path = tmp_path / "params.yaml"
    path.write_text(yaml.safe_dump(values))
    with pytest.raises(UserError) as caught:
        load(path)
    return str(caught.value)


def test_an_unknown_key_is_named(tmp_path: Path) -> None:
    assert "params.yaml: unknown key train.stepz" in complaint(tmp_path, "train", stepz=1)


def test_an_unknown_section_is_named(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(yaml.safe_dump(COMMITTED | {"trian": {}}))
    with pytest.raises(UserError, match="trian"):
        load(path)


def test_a_missing_key_is_named(tmp_path: Path) -> None:
    assert "params.yaml: missing key network.z_dim" in complaint(tmp_path, "network", z_dim=...)


@pytest.mark.parametrize("section", COMMITTED)
def test_no_key_has_a_default(tmp_path: Path, section: str) -> None:
    for key in COMMITTED[section]:
        assert f"missing key {section}.{key}" in complaint(tmp_path, section, **{key: ...})


def test_a_wrong_type_is_named_with_its_value(tmp_path: Path) -> None:
    said = complaint(tmp_path, "train", steps="many")
    assert re.search(r"train\.steps: .*integer.*'many'", said)


def test_a_number_in_quotes_is_no_number(tmp_path: Path) -> None:
    assert "train.r1_gamma" in complaint(tmp_path, "train", r1_gamma="1.0")


@pytest.mark.parametrize(
    ("section", "key", "value"),
    [
        ("prepare", "image_size", 7),
        ("prepare", "image_size", 257),
        ("prepare", "channels", 2),
        ("prepare", "test_share", 1.0),
        ("train", "steps", 0),
        ("train", "beta1", 1.0),
        ("train", "r2_gamma", -0.1),
        ("train", "loss", "wgan"),
        ("network", "dropout", 1.0),
        ("network", "family", "transformer"),
        ("compute", "threads", 0),
        ("compute", "threads", 10_001),
        ("train", "steps", 1_000_000_001),
        ("train", "batch_size", 10**18),
        ("network", "z_dim", 2**62),
        ("network", "generator_width", 10**12),
        ("replicate", "seeds", 10**15),
        ("doctor", "min_images", 2**63 - 1),
        ("compute", "device", "tpu"),
        ("evaluate", "isc_splits", 0),
        ("extractor", "weights_sha256", "6726825d"),
        ("register", "model_name", "Gan; rm -rf /"),
        ("data", "name", "imagenet"),
    ],
)
def test_a_value_out_of_range_is_named(tmp_path: Path, section: str, key: str, value: Any) -> None:
    said = complaint(tmp_path, section, **{key: value})
    assert "params.yaml" in said
    assert key in said


def test_a_seed_may_be_any(tmp_path: Path) -> None:
    values = copy.deepcopy(COMMITTED)
    values["train"]["seed"] = 2**63 - 1
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(values))
    assert load(tmp_path / "params.yaml").train.seed == 2**63 - 1


def test_a_key_of_before_is_answered_with_what_takes_its_place(tmp_path: Path) -> None:
    said = complaint(tmp_path, "register", max_fid_ratio_to_real=2.5)
    assert "unknown key register.max_fid_ratio_to_real; replace it by register.max_fid_to_trivial" in said


HALF: dict[str, Any] = {"start": 1, "end": 0.5, "shape": "cosine", "images": None}


def test_a_number_may_be_a_schedule(tmp_path: Path) -> None:
    values = copy.deepcopy(COMMITTED)
    values["train"] |= {"r1_gamma": HALF, "generator_learning_rate": 1}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(values))
    train = load(tmp_path / "params.yaml").train
    assert (train.r1_gamma, train.generator_learning_rate) == (Schedule(1.0, 0.5, "cosine", None), 1.0)


@pytest.mark.parametrize(
    ("value", "named"),
    [
        ("much", "train.r1_gamma: .*number.*'much'"),
        (None, "train.r1_gamma: .*number"),
        (HALF | {"shape": "square"}, r"train.r1_gamma.shape: .*'linear' or 'cosine'.*'square'"),
        (HALF | {"end": "0"}, "train.r1_gamma.end: .*number"),
        (HALF | {"ends": 0}, "unknown key train.r1_gamma.ends"),
        ({"start": 1, "shape": "cosine", "images": 5}, "missing key train.r1_gamma.end"),
        (HALF | {"images": 0}, "train.r1_gamma: images must be a positive number or null, got 0"),
        (HALF | {"end": -1}, r"train: r1_gamma.end must not be negative or infinite, got -1"),
    ],
)
def test_a_wrong_schedule_is_named_by_its_key_once(tmp_path: Path, value: Any, named: str) -> None:
    said = complaint(tmp_path, "train", r1_gamma=value)
    assert re.search(named, said)
    assert len(said.splitlines()) == 1


def test_the_decay_of_before_is_answered_with_a_schedule(tmp_path: Path) -> None:
    assert "write the decay as generator_learning_rate" in complaint(tmp_path, "train", learning_rate_decay="linear")


def test_all_complaints_come_at_once(tmp_path: Path) -> None:
    said = complaint(tmp_path, "prepare", image_size=4, fit="squeeze", chanels=1)
    assert len(said.splitlines()) == 3


def test_a_folder_needs_a_path(tmp_path: Path) -> None:
    assert "data.path must name a folder, zip or tar" in complaint(tmp_path, "data", name="folder")


def test_a_family_without_images_of_a_size_is_named_with_the_remedy(tmp_path: Path) -> None:
    r3gan = {"family": "r3gan", "generator_width": 8, "discriminator_width": 8, "blocks": 1, "conditional": False}
    network = {name: COMMITTED["network"][name] for name in ("z_dim", "z_distribution")} | r3gan
    path = tmp_path / "params.yaml"
    for size, supported in ((256, True), (28, False)):
        values = COMMITTED | {"network": network, "prepare": COMMITTED["prepare"] | {"image_size": size}}
        path.write_text(yaml.safe_dump(values))
        if supported:
            assert load(path).prepare.image_size == size
        else:
            with pytest.raises(UserError, match=r"network\.family is r3gan.*prepare\.image_size is 28; set it"):
                load(path)


def test_the_digits_take_no_path(tmp_path: Path) -> None:
    assert "data.path must be null" in complaint(tmp_path, "data", path="/somewhere")


def test_classes_are_balanced_for_networks_that_read_them(tmp_path: Path) -> None:
    assert "network.conditional is false" in complaint(tmp_path, "train", class_balance="uniform")


@pytest.mark.parametrize(
    ("seeds", "named"), [(5, "network.conditional is false.*set network.conditional to true"), (1, "to 0, or to 2")]
)
def test_utility_needs_classes_and_two_seeds(tmp_path: Path, seeds: int, named: str) -> None:
    assert re.search(named, complaint(tmp_path, "evaluate", utility_seeds=seeds))
    values = copy.deepcopy(COMMITTED)
    values["network"]["conditional"], values["evaluate"]["utility_seeds"] = True, 2
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(values))
    assert load(tmp_path / "params.yaml").evaluate.utility_seeds == 2


def test_cuda_without_a_gpu_is_said_before_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert "compute.device is cuda, but torch finds no GPU" in complaint(tmp_path, "compute", device="cuda")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"params\.yaml"):
        load(tmp_path / "params.yaml")


@pytest.mark.parametrize("text", ["", "train: [", "just words"])
def test_a_file_that_is_no_mapping_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "params.yaml").write_text(text)
    with pytest.raises(UserError, match=r"params\.yaml"):
        load(tmp_path / "params.yaml")


def test_a_checkpoint_never_depends_on_how_a_number_is_written(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    values = copy.deepcopy(COMMITTED)
    values["train"]["r1_gamma"] = 1
    path.write_text(yaml.safe_dump(values))
    assert repr(load(path).train.r1_gamma) == "1.0"


def test_numbers_are_read_as_dvc_reads_them(tmp_path: Path) -> None:
    text = (Path(__file__).parents[3] / "params.yaml").read_text()
    (tmp_path / "params.yaml").write_text(text.replace("beta2: 0.99", "beta2: 99e-2"))
    assert load(tmp_path / "params.yaml").train.beta2 == 0.99


def test_a_date_is_no_number(tmp_path: Path) -> None:
    text = (Path(__file__).parents[3] / "params.yaml").read_text()
    (tmp_path / "params.yaml").write_text(text.replace("seed: 0", "seed: 2026-01-01"))
    with pytest.raises(UserError, match=r"params\.yaml"):
        load(tmp_path / "params.yaml")


DCGAN = {"family": "dcgan", "maxout_pieces": ..., "dropout": ...}


def test_each_family_has_its_own_keys(tmp_path: Path) -> None:
    values = copy.deepcopy(COMMITTED)
    values["network"] = {key: value for key, value in (values["network"] | DCGAN).items() if value is not ...}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(values))
    assert type(load(tmp_path / "params.yaml").network) is DcganConfig


@pytest.mark.parametrize("key", ["maxout_pieces", "dropout", "stride"])
def test_a_key_of_another_family_is_unknown(tmp_path: Path, key: str) -> None:
    said = complaint(tmp_path, "network", **DCGAN | {key: 1})
    assert f"unknown key network.{key};" in said
    assert len(said.splitlines()) == 1
