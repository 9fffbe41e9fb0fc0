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
    "extractor": {"torch", "safetensors", "torch_fidelity"},
    "train": {"torch", "safetensors", "mlflow", "pandas", "PIL"},
    "replicate": {"torch", "safetensors"},
    "diagnose": {"matplotlib"},
    "evaluate": {"torch", "safetensors", "torch_fidelity", "pandas", "scipy.stats", "PIL"},
    "register": {"mlflow", "pandas", "scipy.stats", "PIL"},
}
BROUGHT = {
    "mlflow": {"pandas", "pyarrow"},
    "pandas": {"pyarrow"},
    "matplotlib": {"PIL"},
    "torch": {"pynvml"},
    "torch_fidelity": {"torch", "torchvision", "torch._dynamo", "torch.distributed.fsdp", "PIL"},
    "scipy.stats": {"scipy.special"},
}
"""What these libraries import themselves."""
SLOW = {"extractor", "train", "replicate", "evaluate", "register"}


def loaded(code: str) -> set[str]:
    """Return the heavy modules that a new process has loaded after some code."""
    report = f"{code}\nimport sys; print(*({HEAVY!r} & set(sys.modules)))"
    ended = subprocess.run(
        [sys.executable, "-c", report], cwd=ROOT, env=environment(), capture_output=True, text=True, check=True
    )
    return set(ended.stdout.split())


@pytest.mark.parametrize(
    "stage", [pytest.param(name, marks=pytest.mark.slow if name in SLOW else ()) for name in STAGES]
)
def test_a_stage_loads_what_it_uses_and_nothing_else(stage: str) -> None:
    load = "from mlops.project import params; params.load(); "
    found = loaded(f"{load}from stages.__main__ import stage_function; stage_function('{stage}')")
    assert found == USES[stage].union(*(BROUGHT.get(name, set()) for name in USES[stage]))


@pytest.mark.parametrize("command", ["promotion", "rebuild", "compare"])
def test_a_command_that_draws_nothing_loads_nothing_that_draws(command: str) -> None:
    assert loaded(f"import stages.{command}") <= {"mlflow", "pandas", "pyarrow", "scipy.special", "scipy.stats"}


def test_flows_load_nothing_of_what_they_start() -> None:
    modules = ", ".join(f"flows.{path.stem}" for path in (ROOT / "flows").glob("[a-z]*.py"))
    assert loaded(f"import {modules}") <= {"prefect"}


@pytest.mark.slow
def test_the_core_loads_neither_flows_nor_tracking_nor_tables() -> None:
    modules = ", ".join(f"gan_core.{path.stem}" for path in (ROOT / "gan_core").glob("[a-z]*.py"))
    assert not loaded(f"import {modules}") & {"prefect", "mlflow", "pandas", "pyarrow", "dvc", "matplotlib"}
    assert loaded("import gan_core") == set()
