"""No process pays for a library that it does not use: what each stage loads, and what the other layers never load."""

import subprocess
import sys

import pytest

from stages.__main__ import STAGES
from tests.project import ROOT, environment

HEAVY = {
    *("torch", "torch._dynamo", "torch.distributed.fsdp", "torchvision", "torch_fidelity", "safetensors"),
    *("mlflow", "pandas", "pyarrow", "scipy.special", "scipy.stats", "sklearn", "matplotlib", "matplotlib.pyplot"),
    *("PIL", "prefect", "dvc", "optuna", "pynvml"),
}
"""What costs a tenth of a second or more to import, or would say that something is where it does not belong."""

USES: dict[str, set[str]] = {
    "code": set(),
    "fetch": set(),
    "prepare": {"pandas", "PIL"},
    "extractor": {"torch", "safetensors"},
    "train": {"torch", "safetensors", "mlflow", "pandas", "PIL"},
    "replicate": {"torch", "safetensors"},
    "choose": {"torch", "safetensors", "scipy.special", "matplotlib", "pandas"},
    "diagnose": {"torch", "safetensors", "scipy.special", "matplotlib"},
    "evaluate": {"torch", "safetensors", "pandas", "scipy.special", "PIL"},
    "register": {"mlflow", "pandas", "scipy.special", "PIL"},
}
BROUGHT = {
    "mlflow": {"pandas", "pyarrow"},
    "pandas": {"pyarrow"},
    "matplotlib": {"PIL"},
    "torch": {"pynvml"},
}
"""What these libraries import themselves."""
SLOW = {"extractor", "train", "replicate", "choose", "diagnose", "evaluate", "register"}
CORE = {"torch", "safetensors", "scipy.special"} | BROUGHT["torch"]
TABLES = {"pandas", "pyarrow", "PIL"}
ROOMS = {
    "parameters project safety": set[str](),
    "images": TABLES,
    "figures": {"matplotlib", "PIL"},
    "promotion": {"pandas", "pyarrow", "scipy.special"},
    "provenance": {"mlflow", "pandas", "pyarrow"},
    "advice drift runs scoring tracking": CORE | TABLES | {"mlflow"},
    "cards": TABLES | {"mlflow", "matplotlib", "scipy.special"},
}
"""What the rooms of `mlops` may load; rooms with the same answer share a process."""


def loaded(code: str) -> set[str]:
    """Return the heavy modules that a new process has loaded after some code."""
    report = f"{code}\nimport sys; print(*({HEAVY!r} & set(sys.modules)))"
    ended = subprocess.run(
        [sys.executable, "-c", report], cwd=ROOT, env=environment(), capture_output=True, text=True, check=True
    )
    return set(ended.stdout.split())


def modules(folder: str) -> str:
    """Return the names of all modules in a folder, however deep, as an import statement lists them."""
    paths = sorted((ROOT / folder).rglob("[a-z]*.py"))
    return ", ".join(".".join(path.relative_to(ROOT).with_suffix("").parts) for path in paths)


@pytest.mark.parametrize(
    "stage", [pytest.param(name, marks=pytest.mark.slow if name in SLOW else ()) for name in STAGES]
)
def test_a_stage_loads_what_it_uses_and_nothing_else(stage: str) -> None:
    heavy = loaded(
        "from mlops.project import params; from stages.__main__ import stage_function; "
        f"params.load(); stage_function('{stage}')"
    )
    assert heavy == USES[stage].union(*(BROUGHT.get(name, set()) for name in USES[stage]))


@pytest.mark.parametrize("command", ["compare", "preset", "promote", "rebuild", "ui"])
def test_a_command_that_makes_no_images_loads_no_networks(command: str) -> None:
    assert loaded(f"import commands.{command}") <= {"mlflow", "pandas", "pyarrow", "scipy.special"}


def test_flows_load_nothing_of_what_they_start() -> None:
    names = modules("flows").split(", ")
    assert loaded(f"import {', '.join(name for name in names if '.sweep.' not in name)}") <= {"prefect"}
    drawn = {"optuna", "matplotlib", "matplotlib.pyplot", "PIL"}
    assert loaded(f"import {modules('flows/sweep')}") <= {"prefect"} | drawn


@pytest.mark.slow
def test_the_core_loads_neither_flows_nor_tracking_nor_tables() -> None:
    assert loaded(f"import {modules('gan_core')}") <= CORE
    assert loaded("import gan_core") == set()


@pytest.mark.slow
def test_a_training_loads_no_compiler() -> None:
    step = "Adam(network, 0.1); network(torch.ones(1, 1)).sum().backward(); adam.step()"
    code = f"import torch; from gan_core.runtime.adam import Adam; network = torch.nn.Linear(1, 1); adam = {step}"
    assert loaded(code) <= CORE


@pytest.mark.slow
@pytest.mark.parametrize(("rooms", "allowed"), ROOMS.items())
def test_a_room_loads_no_library_of_another(rooms: str, allowed: set[str]) -> None:
    names = ", ".join(modules(f"mlops/{room}") for room in rooms.split())
    assert loaded(f"import {names}") <= allowed


def test_every_room_is_checked() -> None:
    rooms = {path.name for path in (ROOT / "mlops").iterdir() if any(path.glob("[a-z]*.py"))}
    assert set(" ".join(ROOMS).split()) == rooms
