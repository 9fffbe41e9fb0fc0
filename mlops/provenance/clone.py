"""A clone of this project in which a stage computes again what it computed, without the project's cache or MLflow."""

import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from tempfile import mkdtemp

from ruamel.yaml import YAML

from mlops.project.errors import UserError
from mlops.project.identity import git, own_repository
from mlops.provenance.record import LOCK, PARAMS
from mlops.safety.ending import PARENTS
from mlops.safety.user_files import SOURCES, check_target

FOREIGN = ("MLFLOW_", "EQUILIBRIUM_", "PREFECT_", "DVC_ROOT", "DVC_STAGE", "DVC_EXP_")
"""Variables that would connect the clone with runs of this project."""


def require_commit(commit: str, root: Path) -> None:
    """Raise a UserError if a project's git does not have a commit, or refuses."""
    git("rev-parse", "--show-toplevel", folder=root)
    try:
        git("cat-file", "-e", f"{commit}^{{commit}}", folder=root)
    except UserError:
        raise UserError(
            f"{root} does not have commit {commit}; `git fetch` it from the clone in which it was made, or run there"
        ) from None


def new_place(folder: str | None) -> Path:
    """Return the absolute path of a folder, a temporary one for None; if it holds something, that is a UserError."""
    if folder is None:
        return Path(mkdtemp(prefix="rebuild-"))
    place = Path(folder).absolute()
    check_target(place)
    if place.exists() and not (place.is_dir() and not any(place.iterdir())):
        raise UserError(f"{place} exists and is not empty; name a new folder, or none for a temporary one")
    return place


def clone(root: Path, place: Path, commit: str, patch: Path) -> Path:
    """Clone a project at a commit with a patch for `git apply`; return its folder. If git refuses, it is a UserError.

    The clone is of the whole repository, and the project may be a folder of it. Without a lock and with an empty
    cache, DVC computes everything in it.
    """
    top, prefix = (os.fsdecode(git("rev-parse", f"--show-{name}", folder=root)[:-1]) for name in ("toplevel", "prefix"))
    git("clone", "--quiet", "--no-checkout", top, str(place), folder=root)
    git("checkout", "--quiet", "--detach", commit, folder=place)
    project = place / prefix
    if not (project / PARAMS).exists():
        raise UserError(f"commit {commit} has no {prefix}{PARAMS}; run rebuild in a clone where the project is as then")
    if patch.stat().st_size:
        print(f"applying the {len(patch.read_bytes().splitlines())} lines that differed from {commit}")
        git("apply", "--whitespace=nowarn", str(patch), folder=project)
    (project / LOCK).unlink(missing_ok=True)
    # From a cache that all projects of a user share, DVC would restore the old weights.
    (project / ".dvc" / "config.local").write_text("[cache]\n    dir = cache\n", encoding="utf-8")
    _make_absolute(project / PARAMS, root)
    return project


def _make_absolute(path: Path, root: Path) -> None:
    yaml = YAML()
    values = yaml.load(path.read_text(encoding="utf-8"))
    for section, key in SOURCES:
        if values.get(section, {}).get(key) is not None:
            values[section][key] = str(root / Path(values[section][key]).expanduser())
    with path.open("w", encoding="utf-8") as file:
        yaml.dump(values, file)


def run_stage(name: str, place: Path) -> None:
    """Bring a stage of a clone up to date, its output passed through; if it fails, that is a UserError.

    The stage ends with this process, whatever ends it.
    """
    variables = {name: value for name, value in own_repository().items() if not name.startswith(FOREIGN)}
    variables[PARENTS] = str(os.getpid())
    variables["PATH"] = f"{Path(sys.executable).parent}:{os.environ['PATH']}"  # DVC's shell must find this Python
    command = [sys.executable, "-m", "dvc", "repro", name]
    process = subprocess.Popen(command, cwd=place, env=variables, start_new_session=True)
    try:
        status = process.wait()
    finally:
        with suppress(ProcessLookupError):  # the group is empty
            os.killpg(process.pid, signal.SIGTERM)
    if status:
        raise UserError(f"`dvc repro {name}` failed in {place} (exit {status}); read its own error above")
