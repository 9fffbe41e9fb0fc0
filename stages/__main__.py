"""`python -m stages NAME IN... OUT...`: call the function NAME in `stages/NAME.py`.

Paths come from the command line (written only in `dvc.yaml`), numbers from `params.yaml`: a keyword-only argument of
the function is the section of that name. Imports are late, because every process of a stage starts here.
"""

import importlib
import inspect
import os
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from mlops.project.errors import UserError, command_line
from mlops.safety.new_outputs import count_outputs, new_outputs

if TYPE_CHECKING:
    from mlops.project.params import Params

STAGES = ("code", "fetch", "prepare", "extractor", "train", "replicate", "choose", "diagnose", "evaluate", "register")


def stage_function(name: str) -> Callable[..., None]:
    """Return the function of a stage, whose module is imported only now."""
    if name not in STAGES:
        raise UserError(f"unknown stage {name!r}; choose one of {', '.join(STAGES)}")
    function: Callable[..., None] = getattr(importlib.import_module(f"stages.{name}"), name)
    return function


def sections(function: Callable[..., None]) -> list[str]:
    """Return the sections of `params.yaml` that a stage reads: the names of its keyword-only arguments."""
    arguments = inspect.signature(function).parameters.values()
    return [argument.name for argument in arguments if argument.kind is argument.KEYWORD_ONLY]


def main(name: str = "", *paths: str) -> None:
    """Run one stage on paths; all of `params.yaml` is checked before any work."""
    if name == "code":  # it always runs: without pydantic it takes a third of the time
        stage_function(name)(*map(Path, paths))
        return
    from mlops.project.params import load

    values = load()
    function = stage_function(name)
    if "TORCHELASTIC_RUN_ID" in os.environ:  # torchrun started this process
        from mlops.runs.worker import run_rank
        from mlops.safety.slots import shared

        with shared():
            run_rank(partial(run, function, paths), values)
        return
    expected = len(inspect.signature(function).parameters) - len(sections(function))
    if len(paths) != expected:
        raise UserError(f"stage {name} takes {expected} paths, got {len(paths)}; run `dvc repro {name}`")
    first = len(paths) - count_outputs(function)
    with new_outputs([Path(path) for path in paths[first:]]) as written:
        paths = (*paths[:first], *map(str, written))
        if "execution" not in sections(function):
            run(function, paths, values)
            return
        from mlops.runs.placement import slots_of
        from mlops.safety.slots import occupied

        with occupied(name, slots_of(values)):
            if values.execution.processes == 1:
                run(function, paths, values)
                return
            from mlops.runs.launcher import launch

            launch(name, paths, values)


def run(function: Callable[..., None], paths: tuple[str, ...], values: "Params") -> None:
    """Run a stage in this process."""
    function(*map(Path, paths), **{section: getattr(values, section) for section in sections(function)})


if __name__ == "__main__":
    with command_line():
        if sys.argv[1:2] != ["code"]:  # which ends in half a second
            from mlops.safety.ending import end_in_time

            end_in_time()
        main(*sys.argv[1:])
