"""What a run in a workspace leaves: an experiment of DVC in the project's git, and on the remotes that are set."""

import os
import re
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from prefect import get_run_logger

from flows.experiment.form import NONE, PARAMS
from flows.experiment.workspace import REMOTE, Workspace, alone, given_remote, output
from flows.failure import StageFailedError

DVC = (sys.executable, "-m", "dvc")
LEDGER = "ledger.jsonl"
PROBE = "probe.txt"
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


def pull(workspace: Workspace) -> None:
    """Bring what the commit's lock names from the remote that a worker was given, as far as it is there.

    A remote that cannot be written is a StageFailedError now, not after hours of training.
    """
    remote = given_remote()
    if not remote:
        return
    if not os.environ.get("MLFLOW_TRACKING_URI"):
        raise StageFailedError("MLFLOW_TRACKING_URI is not set, so the run would be lost with this worker's folder")
    if "://" not in remote and not Path(remote).is_dir():  # DVC would make it
        raise StageFailedError(f"DVC's remote {remote} is no folder on this machine; correct {REMOTE}")
    try:
        _push_probe(workspace)
        output([*DVC, "pull", "--allow-missing"], workspace.folder)
    except StageFailedError as error:
        raise StageFailedError(
            f"DVC's remote {remote} cannot be read and written ({error}); correct {REMOTE} or the worker's credentials"
        ) from None


def _push_probe(workspace: Workspace) -> None:
    """Push one small file; to read is not enough, for a remote that refuses looks like one that lacks the data."""
    with alone(workspace.folder) as folder:
        (folder / PROBE).write_text("Equilibrium writes here.\n")
        output([*DVC, "add", "--quiet", PROBE], folder)
        output([*DVC, "push", f"{PROBE}.dvc"], folder)  # quiet, it would not print why it fails


def save(workspace: Workspace, name: str, stages: Sequence[str]) -> None:
    """Keep parameters and the results of stages as an experiment of the commit, for `dvc exp show` and `apply`."""
    decisions, options = workspace.home / ".checkpoints" / LEDGER, ["--force", "--name", name]
    if given_remote() and decisions.exists():  # else they would be lost with the worker's folder
        shutil.copy(decisions, workspace.folder / LEDGER)
        options += ["--include-untracked", LEDGER]
    output([*DVC, "exp", "save", *options, *stages], workspace.folder)
    ref = output(["git", "for-each-ref", "--format=%(refname)", f"refs/exps/*/*/{name}"], workspace.folder).strip()
    output(["git", "push", "--quiet", "--force", "origin", f"{ref}:{ref}"], workspace.folder)
    get_run_logger().info(f"experiment {name}: `dvc exp show` lists it, `dvc exp apply {name}` makes it the project's")


def push(workspace: Workspace, name: str) -> None:
    """Push results and experiment, if DVC has a default remote.

    What fails stays here, and a warning has the remedy; a worker that has no project of its own fails.
    """
    if not output([*DVC, "config", "core.remote"], workspace.folder, check=False).strip():
        return
    origin = _origin(workspace)
    try:
        output([*DVC, *(["exp", "push", origin, name] if origin else ["push"])], workspace.folder)
    except StageFailedError as error:
        again = f"dvc exp push origin {name}" if origin else "dvc push"
        message = f"the results could not be pushed: {error}; mend that, then `{again}`"
        if given_remote():
            raise StageFailedError(message) from None
        get_run_logger().warning(message)


def _origin(workspace: Workspace) -> str:
    """Return the address that the project was cloned from; empty if it was not."""
    return output(["git", "remote", "get-url", "origin"], workspace.home, check=False).strip()
