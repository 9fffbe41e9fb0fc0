import shutil
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from mlops.parameters.asked import asked
from mlops.project.errors import UserError
from mlops.project.params import load

ROOT = Path(__file__).parents[3]
SCHEDULE = {"start": 0.1, "end": 0.0, "shape": "cosine", "images": 1000}


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make the parameters, presets and pipelines of a project the working directory's, and a folder of images."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DVC_ROOT", raising=False)
    for name in ("params.yaml", "dvc.yaml"):
        shutil.copy(ROOT / name, tmp_path)
    shutil.copytree(ROOT / "presets", tmp_path / "presets")
    (tmp_path / "pictures").mkdir()
    return tmp_path


def values(**asked_for: Any) -> Any:
    """Return the values of the file that is asked for, once it is found valid."""
    text = asked(**{"preset": "params.yaml", "data": "", "overrides": {}} | asked_for)
    Path("params.yaml").write_text(text)
    load()
    return YAML(typ="safe").load(text)


def test_nothing_asked_changes_no_value() -> None:
    before = YAML(typ="safe").load(Path("params.yaml").read_text())
    assert values() == before
    assert values(overrides=dict.fromkeys(before)) == before


@pytest.mark.parametrize(
    "overrides",
    [
        {"train.steps": 7, "train.r1_gamma": SCHEDULE, "doctor": None},
        {"train": {"steps": 7, "r1_gamma": SCHEDULE}},
        {"train": {"steps": 7}, "train.r1_gamma": SCHEDULE},
    ],
)
def test_sections_and_single_keys_are_the_same(overrides: dict[str, Any]) -> None:
    before = values()
    before["train"] |= {"steps": 7, "r1_gamma": SCHEDULE}
    assert values(overrides=overrides) == before


def test_one_part_of_a_schedule_changes_and_the_others_stay() -> None:
    before = values()
    before["train"]["generator_learning_rate"]["start"] = 0.004
    assert values(overrides={"train.generator_learning_rate.start": 0.004}) == before
    with pytest.raises(UserError, match=r"train.r1_gamma is no schedule, so it has no start"):
        values(overrides={"train.r1_gamma.start": 1.0})


def test_overrides_go_on_top_of_a_preset() -> None:
    preset = values(preset="mnist-dcgan")
    assert preset["network"]["family"] == "dcgan"
    preset["train"]["seed"] = 5
    assert values(preset="mnist-dcgan", overrides={"train.seed": 5}) == preset


def test_another_member_of_a_union_keeps_what_it_shares_with_the_one_before() -> None:
    before = values()["network"]
    after = values(overrides={"network": {"z_dim": 9, "family": "dcgan"}})["network"]
    assert after == {key: before[key] for key in before.keys() - {"maxout_pieces", "dropout"}} | {
        "family": "dcgan",
        "z_dim": 9,
    }


@pytest.mark.parametrize(
    ("preset", "data", "expected"),
    [
        ("params.yaml", "mnist", ("mnist", None)),
        ("params.yaml", "pictures", ("folder", "pictures")),
        ("images-32", "pictures", ("folder", "pictures")),
        ("mnist-dcgan", "", ("mnist", None)),
        ("mnist-dcgan", "pictures", ("mnist", "pictures")),
    ],
)
def test_data_are_a_name_or_a_place(preset: str, data: str, expected: tuple[str, str | None]) -> None:
    section = values(preset=preset, data=data)["data"]
    assert (section["name"], section["path"]) == expected


@pytest.mark.parametrize(
    ("asked_for", "words"),
    [
        ({"overrides": {"train.steps": 0}}, ["train", "steps", "between 1 and", "0"]),
        ({"overrides": {"train.steps": "7"}}, ["train.steps", "integer", "'7'"]),
        ({"overrides": {"train": {"stepz": 7}}}, ["train.stepz"]),
        ({"overrides": {"trane": {"steps": 7}}}, ["trane", "train"]),
        ({"overrides": {"train": 7}}, ["train", "7"]),
        ({"overrides": {"compute.threads": 257}}, ["threads", "256"]),
        ({"overrides": {"network.family": "r3gan"}}, ["network.blocks"]),
        ({"overrides": {"network.family": "gan"}}, ["network.family", "'mlp'", "'gan'"]),
        ({"overrides": {"train.batch_size": 3, "execution.micro_batches": 2}}, ["train.batch_size"]),
        ({"preset": "nothing"}, ["nothing", "digits"]),
        ({"preset": "images-32"}, ["images-32"]),
        ({"data": "nowhere"}, ["nowhere", "mnist"]),
        ({"data": "data/raw"}, ["data/raw"]),
    ],
)
def test_what_is_not_valid_is_one_line_that_names_it(asked_for: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(UserError) as caught:
        values(**asked_for)
    (line,) = str(caught.value).splitlines()
    assert [word for word in words if word not in line] == []
