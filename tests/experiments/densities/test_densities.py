import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from experiments.densities.config import NAMES, load_density_params
from experiments.densities.densities import densities
from experiments.densities.density_pictures import density_pictures
from mlops.project.errors import UserError
from mlops.project.result_files import load_json
from tests.project import DENSITY_PARAMS, ROOT, Project, tiny_densities

COMMITTED = ROOT / DENSITY_PARAMS
PICTURES = {"learning.png", "value.png", "gradients.png", "modes.png"}


def values_of(path: Path) -> dict[str, Any]:
    """Return the values of a file, without the YAML anchors that share them."""
    values: dict[str, Any] = json.loads(json.dumps(yaml.safe_load(path.read_text())))
    return values


def written(tmp_path: Path, values: dict[str, Any]) -> Path:
    path = tmp_path / "params.yaml"
    path.write_text(yaml.safe_dump(values))
    return path


def message(tmp_path: Path, section: str, **changes: Any) -> str:
    values = tiny_densities(values_of(COMMITTED))
    values[section] = {key: value for key, value in (values[section] | changes).items() if value is not ...}
    with pytest.raises(UserError) as caught:
        load_density_params(written(tmp_path, values))
    return str(caught.value)


def test_the_committed_parameters_are_valid() -> None:
    values = load_density_params(COMMITTED)
    assert tuple(values.games()) == NAMES
    assert {game.train.seed for game in values.games().values()} == {0}


def test_an_unknown_key_is_named(tmp_path: Path) -> None:
    assert "measure.cellz" in message(tmp_path, "measure", cellz=3)


@pytest.mark.parametrize("section", ["measure", "gradients", "ring"])
def test_no_key_has_a_default(tmp_path: Path, section: str) -> None:
    for key in values_of(COMMITTED)[section]:
        assert f" {section}.{key}" in message(tmp_path, section, **{key: ...})


def test_a_key_within_a_game_is_named(tmp_path: Path) -> None:
    network = values_of(COMMITTED)["ring"]["network"] | {"z_dim": "two"}
    assert "ring.network.z_dim" in message(tmp_path, "ring", network=network)


def test_a_picture_on_the_way_comes_before_the_end(tmp_path: Path) -> None:
    train = tiny_densities(values_of(COMMITTED))["grid"]["train"]
    assert "grid.train.sample_every" in message(tmp_path, "grid", train=train | {"sample_every": train["steps"]})


def test_the_same_parameters_give_the_same_bytes_with_any_number_of_workers(tmp_path: Path) -> None:
    values = tiny_densities(values_of(COMMITTED))
    for workers in (1, 2):
        folder = tmp_path / str(workers)
        folder.mkdir()
        densities(written(folder, values | {"workers": workers}), folder / "results.json", folder / "metrics.json")
        density_pictures(folder / "results.json", folder / "pictures")
    for name in ("results.json", "metrics.json", *(f"pictures/{picture}" for picture in sorted(PICTURES))):
        assert (tmp_path / "1" / name).read_bytes() == (tmp_path / "2" / name).read_bytes(), name
    assert set(load_json(tmp_path / "1" / "metrics.json")) == set(NAMES)
    results = load_json(tmp_path / "1" / "results.json")
    assert [shown["step"] for shown in results["ring"]["shown"]] == [0, 5, 20]
    assert results["gaussian"]["curves"]["step"] == [0, 5, 10, 20]
    assert results["gaussian"]["curves"]["bound"][0] > -math.log(4)


def test_a_loss_that_is_not_finite_stops_it_by_name(tmp_path: Path) -> None:
    values = tiny_densities(values_of(COMMITTED))
    values["mixture"]["train"] |= {"generator_learning_rate": 1e38, "discriminator_learning_rate": 1e38}
    with pytest.raises(UserError, match=r"^mixture: "):
        densities(written(tmp_path, values), tmp_path / "results.json", tmp_path / "metrics.json")
    assert not (tmp_path / "results.json").exists()


@pytest.mark.slow
def test_the_documented_command_works_in_a_clean_clone(project: Callable[[], Project]) -> None:
    clone = project()
    params = clone.root / DENSITY_PARAMS
    params.write_text(yaml.safe_dump(tiny_densities(values_of(params))))
    clone.dvc("repro", "experiments/densities/dvc.yaml")
    assert {path.name for path in (clone.root / "experiments/densities/pictures").iterdir()} == PICTURES
    assert set(load_json(clone.root / "experiments/densities/metrics.json")) == set(NAMES)
    assert "didn't change, skipping" in clone.dvc("repro", "experiments/densities/dvc.yaml")
    assert "densities" not in clone.dvc("stage", "list")  # what plain `dvc repro` runs


@pytest.mark.slow
def test_the_games_come_to_the_equilibrium_of_the_theory(tmp_path: Path) -> None:
    """With another seed than that of the committed figures."""
    values = values_of(COMMITTED)
    values["measure"]["samples_on_the_way"] = 1000  # of curves that nobody looks at here; the end is measured in full
    values["gradients"] |= {"steps": 4, "every": 2}
    for name in NAMES:
        values[name]["train"]["seed"] = 1
    densities(written(tmp_path, values), tmp_path / "results.json", tmp_path / "metrics.json")
    check_equilibrium(load_json(tmp_path / "metrics.json"), values["measure"])


def test_the_committed_figures_are_within_the_limits() -> None:
    """They are of seed 0; a lock of other parameters fails in tests/test_architecture.py."""
    check_equilibrium(load_json(COMMITTED.with_name("metrics.json")), values_of(COMMITTED)["measure"])


def check_equilibrium(metrics: dict[str, Any], measure: dict[str, Any]) -> None:
    """Check the limits of docs/densities.md, in nats and shares; a JSD below that of chance would be an error, too."""
    chance = measure["cells"] / (8 * measure["samples"])
    for name, most in (("gaussian", 0.004), ("mixture", 0.004), ("heavy_tail", 0.01)):
        line = metrics[name]
        assert chance / 3 < line["jsd"] <= most
        assert chance / 3 < line["jsd_of_ema"] <= most
        assert 0 < line["d_error"] <= 0.03
        assert abs(line["value_plus_log_4"]) <= 0.01
        assert line["value_plus_log_4"] <= 2 * line["jsd"] + 4 * line["value_standard_error"]
        assert 0 < line["value_standard_error"] < 0.001
    assert metrics["ring"]["covered"] == 8
    assert 0.9 <= metrics["ring"]["high_quality_share"] < 0.995
    assert metrics["grid"]["covered"] >= 24
    assert 0.7 <= metrics["grid"]["high_quality_share"] < 0.995
