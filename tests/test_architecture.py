"""Imports point one way, and dvc.yaml, params.yaml and stages/ agree."""

import ast
import hashlib
import importlib
import inspect
import sys
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import yaml
from ruamel.yaml import YAML

from mlops.project import params
from stages.__main__ import STAGES, sections, stage_function

ROOT = Path(__file__).resolve().parent.parent
MAIN, EXPERIMENT = Path("dvc.yaml"), Path("experiments/densities/dvc.yaml")

CORE = {"torch", "numpy", "scipy", "torch_fidelity", "safetensors"}
FILES = {
    *("numpy", "pandas", "pyarrow", "yaml", "ruamel", "pydantic", "jinja2", "rich"),
    *("PIL", "matplotlib", "torch", "safetensors"),
}
TRACKED = FILES | {"mlflow", "requests", "sqlalchemy"}
ROOMS: dict[str, set[str]] = {
    "gan_core/config": set(),
    "gan_core/doctor.py": {"gan_core.config"},
    "gan_core/runtime": {"gan_core.config", *CORE},
    "gan_core/networks": {"gan_core.config", "gan_core.runtime", *CORE},
    "gan_core/losses": {"torch"},
    "gan_core/augmentation": {"gan_core.config", "torch"},
    "gan_core/generation": {"gan_core.config", "gan_core.runtime", "gan_core.networks", *CORE},
    "gan_core/training": {
        *("gan_core.config", "gan_core.runtime", "gan_core.networks", "gan_core.losses", "gan_core.augmentation"),
        *("gan_core.generation", *CORE),
    },
    "gan_core/metrics": {"gan_core.config", "gan_core.runtime", *CORE},
    "gan_core/theory": {
        *("gan_core.config", "gan_core.runtime", "gan_core.networks", "gan_core.losses", "gan_core.augmentation"),
        *("gan_core.generation", "gan_core.training", *CORE),
    },
    "mlops/project": {"gan_core.config", "torch", *FILES},
    "mlops/parameters": {"gan_core.config", "mlops.project", "mlops.safety", *FILES},
    "mlops/safety": {"mlops.images", "mlops.project", "mlops.tracking", "psutil", *FILES},
    "mlops/images": {"mlops.project", *FILES},
    "mlops/advice": {"gan_core", "mlops.images", "mlops.project", "mlops.runs", "mlops.safety", *FILES},
    "mlops/figures": FILES,
    "mlops/runs": {"gan_core", "mlops.images", "mlops.project", "mlops.safety", "mlops.tracking", *FILES},
    "mlops/scoring": {"gan_core", "mlops.project", *FILES},
    "mlops/drift": {"gan_core", "mlops.scoring", "mlops.project", *FILES},
    "mlops/promotion": {"gan_core.metrics", "mlops.scoring", "mlops.project", *FILES},
    "mlops/tracking": {"gan_core", "mlops.promotion", "mlops.project", *TRACKED},
    "mlops/tracking/sweeps": {
        *("gan_core", "mlops.project", "mlops.runs", "mlops.safety", "mlops.scoring", "mlops.tracking", "mlflow"),
    },
    "mlops/provenance": {"mlops.tracking", "mlops.safety", "mlops.project", *FILES},
    "mlops/cards": {
        *("mlops.tracking", "mlops.promotion", "mlops.scoring", "mlops.figures", "mlops.project", "gan_core.metrics"),
        *FILES,
    },
    "stages": {"gan_core", "mlops", *FILES},
    "commands": {"gan_core", "mlops", "click", "psutil", *FILES},
    "experiments": {"gan_core", "mlops", *FILES},
    "flows": {"prefect", "pydantic", "optuna", "rich", "yaml"},
    "deploy": {"mlops.project", "boto3", "botocore", "click"},
}
"""What each room may import beside itself and the standard library. A room that is not listed is an error."""
PACKAGES = ("gan_core", "mlops", "stages", "commands", "experiments", "flows", "deploy")
MOST_MODULES = 10
MOST_LINES, MOST_LINES_OF_A_FILE = 50, 250


def entries(pipeline: Path) -> dict[str, Any]:
    """Return the stages of a pipeline, by name."""
    stages: dict[str, Any] = yaml.safe_load((ROOT / pipeline).read_text())["stages"]
    return stages


PIPELINE = entries(MAIN)
ENTRIES = [(pipeline, name) for pipeline in (MAIN, EXPERIMENT) for name in entries(pipeline)]
MODULES = sorted(
    path.relative_to(ROOT) for package in PACKAGES for path in (ROOT / package).rglob("*.py") if path.stat().st_size
)


def imported(path: Path) -> set[str]:
    """Return the full names of the modules that a file imports, anywhere in it."""
    names = set[str]()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.module is not None, "imports name their module in full"
            assert node.level == 0, "imports name their module in full"
            names |= {_module(node.module, alias.name) for alias in node.names}
    return names


def _module(package: str, name: str) -> str:
    """Return what `from package import name` loads: a module of ours in a folder, or else the package itself."""
    path = ROOT / package.replace(".", "/") / name
    return f"{package}.{name}" if path.is_dir() or path.with_suffix(".py").is_file() else package


def room_of(path: Path) -> str:
    """Return the room of a file: the longest entry of `ROOMS` that holds it."""
    rooms = [
        room for room in ROOMS if path.as_posix() == room or room in [folder.as_posix() for folder in path.parents]
    ]
    if path.name == "__init__.py" and not rooms:
        rooms = [room for room in ROOMS if room.startswith(path.parent.as_posix())]  # holds no code of its own
    assert rooms, f"{path} is in no room of tests/test_architecture.py"
    return max(rooms, key=len)


def not_allowed(path: Path, text_of: Path | None = None) -> set[str]:
    """Return the imports that a file in this place may not have; its text may stand elsewhere."""
    room = room_of(path)
    allowed = ROOMS[room] | {room.removesuffix(".py").replace("/", "."), *sys.stdlib_module_names}
    return {
        name
        for name in imported(text_of or ROOT / path)
        if not any(name == prefix or name.startswith(f"{prefix}.") for prefix in allowed)
    }


@pytest.mark.parametrize("path", MODULES, ids=str)
def test_imports_point_one_way(path: Path) -> None:
    assert not_allowed(path) == set()


@pytest.mark.parametrize(
    ("file", "place"),
    [
        ("gan_core/training/loop.py", "gan_core/metrics"),
        ("mlops/tracking/runs.py", "mlops/scoring"),
        ("mlops/promotion/gate.py", "gan_core/losses"),
        ("stages/train.py", "flows"),
        ("flows/training.py", "commands"),
    ],
)
def test_a_file_in_the_wrong_room_is_noticed(file: str, place: str) -> None:
    assert not_allowed(Path(place) / Path(file).name, text_of=ROOT / file) != set()


def test_every_room_is_there() -> None:
    assert {room_of(path) for path in MODULES} == set(ROOMS)


def test_a_file_outside_of_all_rooms_is_noticed() -> None:
    for path in ("gan_core/new.py", "mlops/new.py", "mlops/new/new.py"):
        with pytest.raises(AssertionError, match=path):
            room_of(Path(path))


def test_folders_and_files_are_called_by_what_is_in_them() -> None:
    names = {part.removesuffix(".py") for path in MODULES for part in path.parts}
    assert names & {"utils", "util", "helpers", "helper", "common", "base", "misc"} == set()


def test_no_function_is_longer_than_a_screen() -> None:
    functions = [
        (f"{path}: {node.name}", node.end_lineno - node.lineno + 1)
        for path in MODULES
        for node in ast.walk(ast.parse((ROOT / path).read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.end_lineno is not None
    ]
    assert {name: lines for name, lines in functions if lines > MOST_LINES} == {}


def test_no_file_is_longer_than_a_person_reads() -> None:
    lines = {str(path): len((ROOT / path).read_text().splitlines()) for path in MODULES}
    assert {path: count for path, count in lines.items() if count > MOST_LINES_OF_A_FILE} == {}


def test_no_folder_has_more_modules_than_a_person_can_hold() -> None:
    folders = [path.parent for path in MODULES if not path.name.startswith("__")]
    assert {folder for folder in folders if folders.count(folder) > MOST_MODULES} == set()


def test_stages_are_those_of_the_pipeline_in_its_order() -> None:
    assert list(PIPELINE) == list(STAGES)
    assert {path.stem for path in (ROOT / "stages").glob("[a-z]*.py")} == set(STAGES)


# The doctor warns during training and may end it with an error, but what a training writes does not depend on it. Nor
# do scores depend on the number of processes among which they are shared.
UNWATCHED: dict[str, set[str]] = {"prepare": {"network"}, "train": {"doctor"}, "evaluate": {"execution"}}


@pytest.mark.parametrize("name", STAGES)
def test_a_stage_reads_the_sections_that_dvc_watches(name: str) -> None:
    read = [section for section in sections(stage_function(name)) if section not in UNWATCHED.get(name, set())]
    assert read == PIPELINE[name].get("params", [])


@pytest.mark.parametrize(("pipeline", "name"), ENTRIES)
def test_a_stage_takes_its_inputs_and_then_its_outputs(pipeline: Path, name: str) -> None:
    entry = entries(pipeline)[name]
    package = "stages" if pipeline == MAIN else "experiments.densities"
    paths = entry["cmd"].removeprefix(f"python -m {package} {name} ").split()
    inputs = [dep for dep in entry.get("deps", []) if not dep.startswith("${paths.digests}")]
    outputs = [next(iter(out)) if isinstance(out, dict) else out for out in entry["outs"]]
    assert paths == inputs + outputs
    if name != "code":
        function = getattr(importlib.import_module(f"{package}.{name}"), name)
        arguments = inspect.signature(function).parameters.values()
        assert len(paths) == sum(argument.kind is not argument.KEYWORD_ONLY for argument in arguments)


@pytest.mark.parametrize(("pipeline", "name"), [entry for entry in ENTRIES if entry[1] != "code"])
def test_a_stage_depends_on_its_code_by_its_digest_alone(pipeline: Path, name: str) -> None:
    deps = entries(pipeline)[name]["deps"]
    assert [dep for dep in deps if "digests" in dep] == [f"${{paths.digests}}/{name}.json"]
    assert [dep for dep in deps if dep.endswith(".py")] == []


@pytest.mark.parametrize(("pipeline", "name"), ENTRIES)
def test_the_committed_lock_is_of_this_pipeline(pipeline: Path, name: str) -> None:
    """A lock of another pipeline would make `dvc pull` fetch what does not belong to the parameters beside it."""
    reader = YAML(typ="safe")  # DVC's; PyYAML takes the lock's 1e-06 for a word
    locked = reader.load((ROOT / pipeline).with_name("dvc.lock"))["stages"]
    entry = entries(pipeline)[name]
    values = reader.load(ROOT / "params.yaml")
    expected = {section: values[section] for section in entry.get("params", [])}
    assert locked[name].get("params", {}).get("params.yaml", {}) == expected


def test_the_committed_lock_of_the_experiment_is_of_its_parameters() -> None:
    params_file = EXPERIMENT.with_name("params.yaml")
    locked = yaml.safe_load((ROOT / EXPERIMENT).with_name("dvc.lock").read_text())["stages"]["densities"]["deps"]
    (md5,) = [dep["md5"] for dep in locked if dep["path"] == params_file.as_posix()]
    assert md5 == hashlib.md5((ROOT / params_file).read_bytes(), usedforsecurity=False).hexdigest()


def test_every_section_of_params_is_watched_by_a_stage() -> None:
    watched = {section for entry in PIPELINE.values() for section in entry.get("params", [])}
    assert watched == {field.name for field in fields(params.Params)}


def test_no_parameter_has_a_name_that_the_run_cache_overlooks() -> None:
    """DVC's key of a past run leaves out whatever is called `size` or `nfiles`, so it would restore wrong outputs."""
    values = yaml.safe_load((ROOT / "params.yaml").read_text())
    assert {"size", "nfiles"} & {key for section in values.values() for key in section} == set()


def test_paths_are_written_once() -> None:
    pipelines = [yaml.safe_load((ROOT / pipeline).read_text()) for pipeline in (MAIN, EXPERIMENT)]
    paths = [path for pipeline in pipelines for path in pipeline["vars"][0]["paths"].values()]
    code = {path: (ROOT / path).read_text() for path in MODULES}
    assert {(path.name, written) for path, text in code.items() for written in paths if f'"{written}' in text} == set()


def test_the_committed_parameters_and_presets_are_valid(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from commands.preset import apply_preset

    monkeypatch.chdir(tmp_path)
    (tmp_path / "presets").symlink_to(ROOT / "presets")
    for preset in (ROOT / "presets").glob("*.yaml"):
        of_folder = YAML(typ="safe").load(preset.read_text())["data"]["name"] == "folder"
        data = str(ROOT / "tests") if of_folder else None
        apply_preset(preset.stem, data)
        assert params.load().data.path == data
