from dataclasses import asdict
from pathlib import Path

import pytest
import yaml

from commands.preset import apply_preset, main
from mlops.project.errors import UserError
from mlops.project.params import load

ROOT = Path(__file__).parents[2]
PRESETS = sorted((ROOT / "presets").glob("*.yaml"))


@pytest.fixture(autouse=True)
def _in_a_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "params.yaml").write_text((ROOT / "params.yaml").read_text())
    (tmp_path / "presets").mkdir()


def test_a_preset_changes_its_values_and_nothing_else() -> None:
    Path("presets/short.yaml").write_text("train: {steps: 7}\n")
    before = Path("params.yaml").read_text().splitlines()
    apply_preset("short")
    after = Path("params.yaml").read_text().splitlines()
    changed = [(old, new) for old, new in zip(before, after, strict=True) if old != new]
    assert [(old.split("#")[0].split(), new.split("#")[0].split()) for old, new in changed] == [
        (["steps:", "12000"], ["steps:", "7"])
    ]


@pytest.mark.parametrize("preset", PRESETS, ids=lambda path: path.stem)
def test_a_section_with_a_family_is_replaced(preset: Path) -> None:
    before = Path("params.yaml").read_text()
    for path in (preset, *PRESETS, preset):  # from the defaults, and after any other preset
        Path("presets", path.name).write_text(path.read_text())
        apply_preset(path.stem, str(ROOT / "presets"))
    network = yaml.safe_load(preset.read_text())["network"]
    assert yaml.safe_load(Path("params.yaml").read_text())["network"] == network
    assert asdict(load().network) == network
    assert Path("params.yaml").read_text().count("\n\n") == before.count("\n\n")


def test_comments_and_nulls_stay() -> None:
    Path("presets/short.yaml").write_text("train: {steps: 7}\n")
    apply_preset("short")
    text = Path("params.yaml").read_text()
    assert text.count("#") == (ROOT / "params.yaml").read_text().count("#")
    assert "path: null" in text


def test_the_path_of_the_data_can_be_given(tmp_path: Path) -> None:
    Path("presets/mine.yaml").write_text("data: {name: folder}\n")
    folder = tmp_path / "with space" / "and 'quote"
    folder.mkdir(parents=True)
    main(["mine", str(folder)], standalone_mode=False)
    assert yaml.safe_load(Path("params.yaml").read_text())["data"] == {
        "name": "folder",
        "path": str(folder),
    }


def test_an_invalid_result_leaves_the_file_as_it_was() -> None:
    Path("presets/wrong.yaml").write_text("train: {stepz: 7}\n")
    before = Path("params.yaml").read_text()
    with pytest.raises(UserError, match=r"train\.stepz"):
        apply_preset("wrong")
    assert Path("params.yaml").read_text() == before


def test_an_unknown_preset_is_answered_with_the_known_ones() -> None:
    Path("presets/short.yaml").write_text("train: {steps: 7}\n")
    with pytest.raises(UserError, match=r"shrot.*\bshort\b"):
        apply_preset("shrot")
