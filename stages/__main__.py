"""`python -m stages NAME IN... OUT...`: find the function NAME in `stages/NAME.py` and call it.

Paths come from the command line (written only in `dvc.yaml`), numbers from `params.yaml`: a keyword-only argument of
the function is the section of that name.
"""

import importlib
import inspect
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from stages import params
from stages.errors import StageError, disk_errors

STAGES = ("fetch", "prepare", "extractor", "train", "retrain", "diagnose", "evaluate", "register")


def stage_function(name: str) -> Callable[..., None]:
    """Return the function of a stage; its module, and so what it imports, is loaded only now."""
    if name not in STAGES:
        raise StageError(f"unknown stage '{name}'; the stages are {', '.join(STAGES)}")
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
        raise StageError(f"stage {name} takes {expected} paths, got {len(paths)}; `dvc repro {name}` gives them")
    with disk_errors(Path.cwd()):
        function(*map(Path, paths), **{section: getattr(values, section) for section in sections(function)})


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that whoever is told to end can still close its run
    try:
        main(*sys.argv[1:])
    except StageError as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit(130)  # as a shell says it; the traceback would say nothing more
