"""`python -m experiments.densities STAGE PATHS...` runs one stage of the experiment, as its `dvc.yaml` does."""

import importlib
import inspect
import sys
from pathlib import Path

from mlops.project.code_digest import write_digests
from mlops.project.errors import UserError, command_line, disk_errors


def code(digests: Path) -> None:
    """Write the digests of the code that the experiment's stages run into a new folder."""
    write_digests("experiments/densities", digests)


def main(name: str = "", *paths: str) -> None:
    """Run one stage on paths; only its module, and what it imports, is loaded."""
    if name not in ("code", "densities", "density_pictures"):
        raise UserError(f"unknown stage '{name}'; the stages are those of experiments/densities/dvc.yaml")
    stage = code if name == "code" else getattr(importlib.import_module(f"experiments.densities.{name}"), name)
    expected = len(inspect.signature(stage).parameters)
    if len(paths) != expected:
        raise UserError(f"stage {name} takes {expected} paths, got {len(paths)}; see experiments/densities/dvc.yaml")
    with disk_errors(Path.cwd()):
        stage(*map(Path, paths))


if __name__ == "__main__":
    with command_line():
        main(*sys.argv[1:])
