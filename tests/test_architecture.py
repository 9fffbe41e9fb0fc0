"""The house holds together: imports point one way, and dvc.yaml, params.yaml and stages/ say the same."""

import ast
import hashlib
import importlib
import inspect
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import yaml
from ruamel.yaml import YAML

from stages import params
from stages.__main__ import STAGES, sections, stage_function

ROOT = Path(__file__).resolve().parent.parent
MAIN, EXPERIMENT = Path("dvc.yaml"), Path("experiments/densities/dvc.yaml")


def entries(pipeline: Path) -> dict[str, Any]:
    """Return the stages of a pipeline, by name."""
    stages: dict[str, Any] = yaml.safe_load((ROOT / pipeline).read_text())["stages"]
    return stages


PIPELINE = entries(MAIN)
ENTRIES = [(pipeline, name) for pipeline in (MAIN, EXPERIMENT) for name in entries(pipeline)]

FORBIDDEN = {
    "gan_core": {"stages", "flows", "prefect", "mlflow", "dvc", "yaml", "pandas"},
    "stages": {"flows", "prefect", "dvc"},
    "flows": {"gan_core", "stages", "torch", "mlflow"},
}
MLFLOW_DOORS = {
    f"stages/{name}.py" for name in ("tracking", "registry", "mirror", "pages", "registered", "served_model")
}
# These say, check, place or fetch things; no image and no number of an output depends on how they do it.
PLUMBING = {
    "gan_core/config.py",
    "stages/density_params.py",
    "stages/download.py",
    "stages/errors.py",
    "stages/lineage.py",
    "stages/origin.py",
    "stages/outputs.py",
    "stages/params.py",
    "stages/progress.py",
    "stages/results.py",
    "stages/tracking.py",
    "stages/workspace.py",
}


def imported(path: Path) -> set[str]:
    """Return the full names of the modules that a file imports, anywhere in it."""
    names = set[str]()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.module is not None
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def code_of(stage: str) -> set[str]:
    """Return the files of this project that a stage's module imports, directly or not, itself included."""
    found, waiting = set[str](), [f"stages/{stage}.py"]
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            files = [module.replace(".", "/") + ".py" for module in imported(ROOT / name)]
            waiting += [file for file in files if (ROOT / file).is_file()]
    return found


@pytest.mark.parametrize("layer", FORBIDDEN)
def test_imports_point_one_way(layer: str) -> None:
    wrong = {
        (path.name, name)
        for path in (ROOT / layer).rglob("*.py")
        for name in imported(path)
        if name.split(".")[0] in FORBIDDEN[layer]
    }
    assert wrong == set()


def test_only_the_doors_import_mlflow() -> None:
    users = {path.relative_to(ROOT).as_posix() for path in (ROOT / "stages").glob("*.py") if "mlflow" in imported(path)}
    assert users == MLFLOW_DOORS


def test_stages_are_those_of_the_pipeline_in_its_order() -> None:
    assert list(PIPELINE) == list(STAGES)


# The doctor warns during training and may end it with an error, but what a training writes does not depend on it. Nor
# do scores depend on the number of processes among which they are shared.
UNWATCHED: dict[str, set[str]] = {"train": {"doctor", "gan_core/doctor.py"}, "evaluate": {"execution"}}


@pytest.mark.parametrize("name", STAGES)
def test_a_stage_reads_the_sections_that_dvc_watches(name: str) -> None:
    read = [section for section in sections(stage_function(name)) if section not in UNWATCHED.get(name, set())]
    assert read == PIPELINE[name]["params"]


@pytest.mark.parametrize(("pipeline", "name"), ENTRIES)
def test_a_stage_takes_its_inputs_and_then_its_outputs(pipeline: Path, name: str) -> None:
    entry = entries(pipeline)[name]
    door = f"python -m stages {name} " if pipeline == MAIN else f"python -m stages.{name} "
    paths = entry["cmd"].removeprefix(door).split()
    inputs = [dep for dep in entry["deps"] if dep.startswith("$")]
    outputs = [next(iter(out)) if isinstance(out, dict) else out for out in entry["outs"] + entry.get("metrics", [])]
    assert paths == inputs + outputs
    function = getattr(importlib.import_module(f"stages.{name}"), name)
    arguments = inspect.signature(function).parameters.values()
    assert len(paths) == sum(argument.kind is not argument.KEYWORD_ONLY for argument in arguments)


@pytest.mark.parametrize(("pipeline", "name"), ENTRIES)
def test_a_stage_depends_on_the_code_that_makes_its_outputs(pipeline: Path, name: str) -> None:
    watched = {dep for dep in entries(pipeline)[name]["deps"] if dep.endswith(".py")}
    assert watched == code_of(name) - PLUMBING - UNWATCHED.get(name, set())


@pytest.mark.parametrize(("pipeline", "name"), ENTRIES)
def test_the_committed_lock_is_of_this_pipeline(pipeline: Path, name: str) -> None:
    """A lock of another pipeline would make `dvc pull` fetch what does not belong to the parameters beside it."""
    reader = YAML(typ="safe")  # DVC's; PyYAML takes the lock's 1e-06 for a word
    locked = reader.load((ROOT / pipeline).with_name("dvc.lock"))["stages"][name]
    entry = entries(pipeline)[name]
    values = reader.load(ROOT / "params.yaml")
    expected = {section: values[section] for section in entry.get("params", [])}
    assert locked.get("params", {}).get("params.yaml", {}) == expected
    code = {dep["path"] for dep in locked["deps"] if dep["path"].endswith(".py")}
    assert code == {dep for dep in entry["deps"] if dep.endswith(".py")}


def test_the_committed_lock_of_the_experiment_is_of_its_parameters() -> None:
    params_file = EXPERIMENT.with_name("params.yaml")
    locked = yaml.safe_load((ROOT / EXPERIMENT).with_name("dvc.lock").read_text())["stages"]["densities"]["deps"]
    (md5,) = [dep["md5"] for dep in locked if dep["path"] == params_file.as_posix()]
    assert md5 == hashlib.md5((ROOT / params_file).read_bytes(), usedforsecurity=False).hexdigest()


def test_every_section_of_params_is_watched_by_a_stage() -> None:
    watched = {section for entry in PIPELINE.values() for section in entry["params"]}
    assert watched == {field.name for field in fields(params.Params)}


def test_no_parameter_has_a_name_that_the_run_cache_overlooks() -> None:
    """DVC's key of a past run leaves out whatever is called `size` or `nfiles`, so it would restore wrong outputs."""
    values = yaml.safe_load((ROOT / "params.yaml").read_text())
    assert {"size", "nfiles"} & {key for section in values.values() for key in section} == set()


def test_paths_are_written_once() -> None:
    pipelines = [yaml.safe_load((ROOT / pipeline).read_text()) for pipeline in (MAIN, EXPERIMENT)]
    paths = [path for pipeline in pipelines for path in pipeline["vars"][0]["paths"].values()]
    code = {path: path.read_text() for layer in FORBIDDEN for path in (ROOT / layer).rglob("*.py")}
    assert {(path.name, written) for path, text in code.items() for written in paths if f'"{written}' in text} == set()


def test_the_committed_parameters_and_presets_are_valid(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from stages.preset import apply_preset

    monkeypatch.chdir(tmp_path)
    (tmp_path / "presets").symlink_to(ROOT / "presets")
    for preset in (ROOT / "presets").glob("*.yaml"):
        (tmp_path / "params.yaml").write_text((ROOT / "params.yaml").read_text())
        apply_preset(preset.stem, "somewhere")
        assert params.load().data.path == "somewhere"
