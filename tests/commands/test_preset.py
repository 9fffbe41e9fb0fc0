import json
import os
import subprocess
from dataclasses import asdict
from pathlib import Path

import pytest
import yaml

from commands.preset import apply_preset, main
from mlops.project.errors import UserError
from mlops.project.params import load
from mlops.project.presets import DEFAULTS

ROOT = Path(__file__).parents[2]
PRESETS = sorted((ROOT / "presets").glob("*.yaml"))


@pytest.fixture(autouse=True)
def _in_a_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "params.yaml").write_text((ROOT / "params.yaml").read_text())
    (tmp_path / "presets").mkdir()
    (tmp_path / DEFAULTS).write_text((ROOT / DEFAULTS).read_text())


def test_the_projects_parameters_are_the_defaults() -> None:
    """A preset starts from a copy, because a person may have committed other parameters."""
    assert (ROOT / "params.yaml").read_text() == (ROOT / DEFAULTS).read_text(), f"copy params.yaml to {DEFAULTS}"


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
def test_a_preset_after_any_other_is_that_preset_alone(preset: Path) -> None:
    for path in PRESETS:
        Path("presets", path.name).write_text(path.read_text())
    alone = applied(preset)
    assert alone.count("\n\n") == (ROOT / "params.yaml").read_text().count("\n\n")
    assert asdict(load().network) == yaml.safe_load(preset.read_text())["network"]
    for other in PRESETS:
        applied(other)
        assert applied(preset) == alone


def applied(preset: Path) -> str:
    """Return `params.yaml` with a preset, of a folder of images if it is for one."""
    of_folder = yaml.safe_load(preset.read_text())["data"]["name"] == "folder"
    apply_preset(preset.stem, str(ROOT / "presets") if of_folder else None)
    return Path("params.yaml").read_text()


def test_the_preset_of_the_digits_returns_to_the_defaults_and_names_what_is_lost(
    capsys: pytest.CaptureFixture[str],
) -> None:
    text = Path("params.yaml").read_text()
    Path("params.yaml").write_text(text.replace("threads: 1 ", "threads: 4 ").replace("metric: fid", "gone: true"))
    apply_preset("digits")
    assert Path("params.yaml").read_bytes() == (ROOT / DEFAULTS).read_bytes()
    assert capsys.readouterr().out.splitlines()[1].endswith(": compute.threads (was 4)")
    apply_preset("digits")
    assert len(capsys.readouterr().out.splitlines()) == 1
    Path("params.yaml").unlink()
    apply_preset("digits")
    assert Path("params.yaml").read_bytes() == (ROOT / DEFAULTS).read_bytes()


@pytest.mark.parametrize("data", [None, "/nonexist"])
def test_images_that_are_not_there_are_an_error_at_once(data: str | None) -> None:
    Path("presets/images-32.yaml").write_text((ROOT / "presets" / "images-32.yaml").read_text())
    before = Path("params.yaml").read_text()
    with pytest.raises(UserError, match=r"DATA=|/nonexist"):
        apply_preset("images-32", data)
    assert Path("params.yaml").read_text() == before


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


def test_a_pipeline_that_runs_keeps_its_parameters(subtests: pytest.Subtests) -> None:
    with subprocess.Popen(["true"]) as dead:
        pass
    Path(".dvc/tmp").mkdir(parents=True)
    used, before = Path(".dvc/tmp/rwlock"), Path("params.yaml").read_text()
    for process in (os.getpid(), dead.pid):
        user = {"pid": process, "cmd": "dvc repro"}
        used.write_text(json.dumps({"write": {"/models": user}, "read": {"/data": [user]}}))
        with subtests.test(process=process):
            if process == dead.pid:
                apply_preset("digits")
            else:
                with pytest.raises(UserError, match=rf"process {process} runs `dvc repro`"):
                    apply_preset("digits")
                assert Path("params.yaml").read_text() == before
    for left in ("{}", "", '{"read": {}}'):  # as DVC leaves it, and as a kill may
        used.write_text(left)
        apply_preset("digits")


def test_an_unknown_preset_is_answered_with_the_known_ones() -> None:
    Path("presets/short.yaml").write_text("train: {steps: 7}\n")
    with pytest.raises(UserError, match=r"shrot.*\bshort\b"):
        apply_preset("shrot")
