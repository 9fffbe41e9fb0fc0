"""`python -m experiments.densities STAGE PATHS...` runs one stage of the experiment, as its `dvc.yaml` does."""

import importlib
import inspect
import sys
from pathlib import Path

from mlops.project.code_digest import write_digests
from mlops.project.errors import UserError, command_line
from mlops.safety.new_outputs import count_outputs, new_outputs
from mlops.safety.pipelines import DENSITIES
from mlops.safety.user_files import check_outputs
from mlops.safety.written_files import note_written


def code(digests: Path) -> None:
    """Write the digests of the code that the experiment's stages run, unless an output holds a person's files."""
    check_outputs(DENSITIES)
    write_digests("experiments/densities", digests)
    note_written(digests)


def main(name: str = "", *paths: str) -> None:
    """Run one stage on paths; only its module, and what it imports, is loaded."""
    if name not in ("code", "densities", "density_pictures"):
        raise UserError(f"unknown stage '{name}'; the stages are those of experiments/densities/dvc.yaml")
    stage = code if name == "code" else getattr(importlib.import_module(f"experiments.densities.{name}"), name)
    expected = len(inspect.signature(stage).parameters)
    if len(paths) != expected:
        raise UserError(f"stage {name} takes {expected} paths, got {len(paths)}; see experiments/densities/dvc.yaml")
    first = len(paths) - count_outputs(stage)
    with new_outputs([Path(path) for path in paths[first:]]) as written:
        stage(*map(Path, paths[:first]), *written)


if __name__ == "__main__":
    with command_line():
        main(*sys.argv[1:])
