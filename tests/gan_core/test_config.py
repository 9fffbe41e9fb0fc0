import dataclasses
import math
import subprocess
import sys
from dataclasses import replace
from typing import Any, get_args

import pytest

from gan_core.config import ComputeConfig, NetworkConfig, Schedule
from tests.gan_core.examples import DCGAN, EXTRACTOR, MLP, NETWORKS, TRAIN

COMPUTE = ComputeConfig(device="cpu", threads=1)
POSITIVE = {
    MLP: ["z_dim", "generator_width", "discriminator_width", "maxout_pieces"],
    DCGAN: ["z_dim", "generator_width", "discriminator_width"],
    TRAIN: [
        "steps",
        "batch_size",
        "discriminator_steps",
        "generator_learning_rate",
        "discriminator_learning_rate",
        "report_every",
        "sample_every",
        "checkpoint_every",
        "snapshots",
    ],
    EXTRACTOR: ["epochs", "batch_size", "learning_rate"],
}
NOT_NEGATIVE = {TRAIN: ["r1_gamma", "r2_gamma", "wgan_gp", "seed"], EXTRACTOR: ["seed"]}
SHARES = {MLP: ["dropout"], TRAIN: ["beta1", "beta2", "ema_decay"]}


def cases(keys: dict[Any, list[str]], values: list[float]) -> list[tuple[Any, str, float]]:
    return [(config, key, value) for config, names in keys.items() for key in names for value in values]


WRONG = [
    *cases(POSITIVE, [0, -1, -0.5, math.inf, math.nan]),
    *cases(NOT_NEGATIVE, [-1, -1e-9, math.nan]),
    *cases({TRAIN: ["r1_gamma", "r2_gamma", "wgan_gp"]}, [math.inf]),
    *cases(SHARES, [-0.1, 1, 1.5, math.nan]),
    *cases({COMPUTE: ["threads"]}, [0, -1, 257, math.nan]),
]
RIGHT = [
    *cases(POSITIVE, [1, 7]),
    *cases({TRAIN: ["generator_learning_rate"], EXTRACTOR: ["learning_rate"]}, [1e-9, 0.5]),
    *cases(NOT_NEGATIVE, [0, 1]),
    *cases(SHARES, [0, 0.5, 0.9999]),
    *cases({COMPUTE: ["threads"]}, [1, 256]),
]


def name(value: object) -> str:
    return type(value).__name__ if dataclasses.is_dataclass(value) else str(value)


@pytest.mark.parametrize(("config", "key", "value"), WRONG, ids=name)
def test_a_value_out_of_range_is_refused_by_its_key(config: Any, key: str, value: float) -> None:
    with pytest.raises(ValueError, match=rf"^{key} must .* got {value}$"):
        replace(config, **{key: value})


@pytest.mark.parametrize(("config", "key", "value"), RIGHT, ids=name)
def test_values_in_range_are_kept(config: Any, key: str, value: float) -> None:
    assert getattr(replace(config, **{key: value}), key) == value


@pytest.mark.parametrize("key", ["r1_gamma", "generator_learning_rate", "beta2", "ema_half_life"])
@pytest.mark.parametrize("end", ["start", "end"])
def test_both_ends_of_a_schedule_are_in_range(key: str, end: str) -> None:
    schedule = Schedule(0.1, 0.0, "cosine", None)
    right: dict[str, Any] = {key: schedule}
    wrong: dict[str, Any] = {key: Schedule(**vars(schedule) | {end: -0.1})}
    assert getattr(replace(TRAIN, **right), key) == schedule
    with pytest.raises(ValueError, match=rf"^{key}\.{end} must .* got -0\.1$"):
        replace(TRAIN, **wrong)


def test_a_schedule_takes_some_images() -> None:
    with pytest.raises(ValueError, match=r"^images must be a positive number or null, got 0$"):
        Schedule(1.0, 0.0, "linear", 0)


def test_a_wasserstein_critic_needs_a_penalty() -> None:
    none: dict[str, Any] = {"r1_gamma": 0.0, "r2_gamma": 0.0, "wgan_gp": 0.0}
    with pytest.raises(ValueError, match="wgan_gp, r1_gamma or r2_gamma must be above 0 if loss is wasserstein"):
        replace(TRAIN, loss="wasserstein", **none)
    assert replace(TRAIN, loss="wasserstein", **none | {"wgan_gp": 10.0}).loss == "wasserstein"


@pytest.mark.parametrize("digest", ["", "0" * 63, "0" * 65, "A" * 64, "g" + "0" * 63, " " + "0" * 63])
def test_a_sha256_that_is_none_is_refused(digest: str) -> None:
    with pytest.raises(ValueError, match=r"^weights_sha256 must"):
        replace(EXTRACTOR, weights_sha256=digest)


@pytest.mark.parametrize("config", [COMPUTE, *NETWORKS, TRAIN, Schedule(1.0, 0.0, "linear", None), EXTRACTOR], ids=name)
def test_configurations_are_frozen_and_have_no_defaults(config: Any) -> None:
    fields = dataclasses.fields(config)
    assert all(field.default is field.default_factory is dataclasses.MISSING for field in fields)
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(config, fields[0].name, None)


def test_each_family_has_a_name_and_an_example_of_its_own() -> None:
    kinds = get_args(NetworkConfig)
    assert [type(network) for network in NETWORKS] == list(kinds)
    assert [kind.__annotations__["family"].__args__ for kind in kinds] == [(network.family,) for network in NETWORKS]


def test_checking_a_configuration_does_not_wait_for_torch() -> None:
    check = "import sys, gan_core.config; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", check], check=False).returncode == 0


@pytest.mark.parametrize(("steps", "snapshots"), [(24, 3), (1000, 7), (7, 10), (5, 1)])
def test_snapshots_are_evenly_spaced_and_end_with_the_last_step(steps: int, snapshots: int) -> None:
    kept = sorted(replace(TRAIN, steps=steps, snapshots=snapshots).snapshot_steps)
    gaps = {after - before for before, after in zip([0, *kept], kept, strict=False)}
    assert (len(kept), kept[-1]) == (min(steps, snapshots), steps)
    assert max(gaps) - min(gaps) <= 1
    assert min(gaps) >= 1
