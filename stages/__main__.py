"""`python -m stages NAME IN... OUT...`: find the function NAME in `stages/NAME.py` and call it.

Paths come from the command line (written only in `dvc.yaml`), numbers from `params.yaml`: a keyword-only argument of
the function is the section of that name.
"""

import importlib
import inspect
import os
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

from mlops.project import params
from mlops.project.errors import UserError, command_line, disk_errors

STAGES = ("code", "fetch", "prepare", "extractor", "train", "replicate", "diagnose", "evaluate", "register")


def stage_function(name: str) -> Callable[..., None]:
    """Return the function of a stage; its module, and so what it imports, is loaded only now."""
    if name not in STAGES:
        raise UserError(f"unknown stage '{name}'; the stages are {', '.join(STAGES)}")
    function: Callable[..., None] = getattr(importlib.import_module(f"stages.{name}"), name)
    return function


def sections(function: Callable[..., None]) -> list[str]:
    """Return the sections of `params.yaml` that a stage reads: the names of its keyword-only arguments."""
    arguments = inspect.signature(function).parameters.values()
    return [argument.name for argument in arguments if argument.kind is argument.KEYWORD_ONLY]


def main(name: str = "", *paths: str) -> None:
    """Run one stage on paths; all of `params.yaml` is checked before any work."""
    values = params.load()
    function = stage_function(name)
    expected = len(inspect.signature(function).parameters) - len(sections(function))
    if len(paths) != expected:
        raise UserError(f"stage {name} takes {expected} paths, got {len(paths)}; `dvc repro {name}` gives them")
    if "execution" in sections(function):
        run_ranks(name, paths, function, values)
    else:
        run(function, paths, values)


def run(function: Callable[..., None], paths: tuple[str, ...], values: params.Params) -> None:
    """Run a stage in this process."""
    with disk_errors(Path.cwd()):
        function(*map(Path, paths), **{section: getattr(values, section) for section in sections(function)})


def run_ranks(name: str, paths: tuple[str, ...], function: Callable[..., None], values: params.Params) -> None:
    """Run a stage that several processes may share: as one of them, as their launcher, or alone."""
    if "TORCHELASTIC_RUN_ID" in os.environ:  # torchrun started this process
        from mlops.runs.worker import play_rank

        play_rank(partial(run, function, paths), values)
    elif values.execution.processes > 1:
        from mlops.runs.launcher import launch

        launch(name, paths, values)
    else:
        run(function, paths, values)


if __name__ == "__main__":
    with command_line():
        main(*sys.argv[1:])
