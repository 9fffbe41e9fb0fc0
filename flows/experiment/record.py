"""What a run in a workspace leaves: an experiment of DVC in the project's git, and on the remotes that are set."""

import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from prefect import get_run_logger

from flows.experiment.form import NONE, PARAMS
from flows.experiment.workspace import Workspace, output
from flows.failure import StageFailedError

DVC = (sys.executable, "-m", "dvc")
LONGEST = 60
"""Letters of a name, without the id behind it."""


def experiment_name(
    run_id: str, preset: str = "", data: str = "", overrides: Mapping[str, Any] = NONE, **_: str
) -> str:
    """Return a name for run and experiment, as git takes it: what is asked for, and the start of the run's id."""
    asked = [*_changes(overrides)]
    words = [] if preset in ("", PARAMS) else [preset]
    words += [Path(data).name] if data else []
    letters = re.sub("[^A-Za-z0-9]+", "-", "-".join([*words, *asked])).strip("-")[:LONGEST].strip("-")
    return f"{letters or 'run'}-{run_id[:6]}"


def _changes(overrides: Mapping[str, Any]) -> Iterator[str]:
    """Yield each value that is asked for behind the last part of its key."""
    for name, content in overrides.items():
        inner = content or {} if "." not in name else {name.partition(".")[2]: content}
        yield from (f"{key}-{value}" for key, value in inner.items() if not isinstance(value, Mapping))


def save(workspace: Workspace, name: str) -> None:
    """Keep parameters and results as an experiment of the commit, for `dvc exp show`, `apply` and `remove`."""
    output([*DVC, "exp", "save", "--force", "--name", name], workspace.folder)
    (ref,) = _refs(workspace, name)
    output(["git", "push", "--quiet", "--force", "origin", f"{ref}:{ref}"], workspace.folder)
    get_run_logger().info(f"experiment {name}: `dvc exp show` lists it, `dvc exp apply {name}` makes it the project's")


def push(workspace: Workspace, name: str) -> None:
    """Push results and experiment, if DVC has a default remote; what fails stays here, and a warning has the remedy."""
    if not output([*DVC, "remote", "default"], workspace.folder).strip().partition("(")[0].strip():
        return
    origin = _origin(workspace)
    command = ["exp", "push", origin, name] if origin else ["push"]
    try:
        output([*DVC, *command], workspace.folder)
    except StageFailedError as error:
        again = f"dvc exp push origin {name}" if origin else "dvc push"
        get_run_logger().warning(f"results are in this project alone, for pushing failed: {error}; then `{again}`")


def _refs(workspace: Workspace, name: str) -> list[str]:
    """Return where git keeps an experiment: one place, for the workspace has no other of the name."""
    return output(["git", "for-each-ref", "--format=%(refname)", f"refs/exps/*/*/{name}"], workspace.folder).split()


def _origin(workspace: Workspace) -> str:
    """Return the address that the project was cloned from; empty if it was not."""
    try:
        return output(["git", "remote", "get-url", "origin"], workspace.home).strip()
    except StageFailedError:
        return ""
