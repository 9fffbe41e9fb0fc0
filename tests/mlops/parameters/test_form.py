import json
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped]  # has no stubs among the locked packages
import pytest
import yaml
from ruamel.yaml import YAML

from mlops.parameters.form import FORM, form

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def sections() -> dict[str, Any]:
    """Return the schema of each section's keys."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        made = form()["overrides"]["properties"]
    return {name: schema["anyOf"][1]["properties"] for name, schema in made.items()}


def test_the_committed_form_is_of_the_present_parameters(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    assert json.loads(FORM.read_text()) == form(), "python -m mlops.parameters.form"


def test_every_parameter_is_in_the_form(sections: dict[str, Any]) -> None:
    values = yaml.safe_load((ROOT / "params.yaml").read_text())
    assert values.keys() == sections.keys()
    assert all(values[name].keys() <= sections[name].keys() for name in values)


@pytest.mark.parametrize("preset", sorted(path.stem for path in (ROOT / "presets").glob("*.yaml")))
def test_every_preset_fits_the_form(preset: str, sections: dict[str, Any]) -> None:
    values = YAML(typ="safe").load((ROOT / "presets" / f"{preset}.yaml").read_text())
    for name, content in values.items():
        for key, value in content.items():
            jsonschema.validate(value, sections[name][key])


@pytest.mark.parametrize(
    ("key", "inside", "outside"),
    [
        ("train.steps", [1, 10**8], [0, -1, 1.5, "12", None]),
        ("train.seed", [0], [-1]),
        ("compute.threads", [1, 256], [0, 257]),
        ("prepare.image_size", [8, 256], [7, 257]),
        ("prepare.test_share", [0.01, 0.99], [0, 1]),
        ("train.beta1", [0, 0.999], [-0.01, 1]),
        ("train.ema_warmup", [1.01, 100], [1, 0]),
        ("doctor.window", [0.001, 1], [0, 1.01]),
        ("train.r1_gamma", [0, 0.5, {"start": 1, "end": 0, "shape": "cosine", "images": None}], [-1, {"start": 1}]),
        ("train.ema_half_life", [None, 5], [-1]),
        ("train.loss", ["hinge"], ["hing", 1]),
        ("train.mirror", [True, False], ["yes", 1]),
        ("network.blocks", [1], [0]),
        ("network.family", ["mlp", "dcgan", "sngan", "r3gan"], ["stylegan"]),
        ("augmentation.color", [True, 0.5], [1.5, "a"]),
    ],
)
def test_a_value_fits_if_its_class_takes_it(
    key: str, inside: list[Any], outside: list[Any], sections: dict[str, Any]
) -> None:
    section, name = key.split(".")
    valid = jsonschema.Draft202012Validator(sections[section][name])
    assert [value for value in inside if not valid.is_valid(value)] == []
    assert [value for value in outside if valid.is_valid(value)] == []


def test_help_is_the_comment_of_the_defaults(sections: dict[str, Any]) -> None:
    assert sections["train"]["steps"]["description"] == "generator updates"
