"""`python -m commands.free [--dry-run]`: what of the project takes disk; what of it nothing needs is deleted."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import click
from rich.console import Console
from rich.filesize import decimal
from rich.table import Table

from mlops.project.errors import UserError, command_line
from mlops.project.identity import project_root
from mlops.runs.kept_work import CHECKPOINT, OF_PREPARE, delete_work
from mlops.safety.locks import locked
from mlops.safety.pipelines import MAIN, PARAMS, cache_folder, load_yaml, nothing_to_do, stored

UNUSED = ("gc", "--workspace", "--all-commits", "--all-experiments", "--force", "--dry")
"""What DVC lists with this is named by no commit, no experiment, and not by `dvc.lock` as it is.

Runs in the project's own MLflow have a `dvc.lock` too: what it names stays, so that their models can be rebuilt.
"""
WORKSPACES = ".workspaces"
"""Where flows work with parameters of their own; a run that succeeds deletes its workspace."""
KEY = re.compile(r"[0-9a-f]{16}")
OTHERS = {
    ".prefect": "past flow runs",
    "generated": "images that you had generated",
    "data": "the data in use",
    "models": "the models in use",
}


@dataclass(frozen=True)
class Part:
    """Something that takes disk: bytes in all, bytes of what nothing needs, in words, and how to delete that."""

    name: str
    size: int
    needless: int
    what: str
    delete: Callable[[], object]


def parts() -> list[Part]:
    """Return what takes disk in the project."""
    root = project_root()
    rest = [Part(name, size_of([root / name]), 0, what, lambda: None) for name, what in OTHERS.items()]
    ended, working = workspaces(root)
    what = f"of {len(ended)} runs that ended without success" if ended else "of runs that work now"
    left = Part(WORKSPACES, size_of([root / WORKSPACES]), size_of(ended), what, lambda: _delete(ended))
    cache = _cache(root)
    if working:  # what they make is in no commit yet
        cache = replace(cache, needless=0, what=f"in use by the run in {working[0]}")
    return [_checkpoints(root / ".checkpoints"), left, cache, _mlflow(root / ".mlflow"), *rest]


def workspaces(root: Path) -> tuple[list[Path], list[Path]]:
    """Return the workspaces of flow runs, those whose run has ended and those that one works in."""
    places = [lock.parent for lock in sorted((root / WORKSPACES).glob("*/lock"))]
    ended = []
    for place in places:
        with suppress(UserError), locked(place, "", ""):
            ended.append(place)
    return ended, [place for place in places if place not in ended]


def _delete(places: list[Path]) -> None:
    for place in places:
        with suppress(UserError), locked(place, "", ""):
            shutil.rmtree(place)


def _checkpoints(folder: Path) -> Part:
    """Of stopped trainings the last one stays, unless the training of `params.yaml` is done; likewise of `prepare`."""
    values = load_yaml(PARAMS)
    trainings = _stopped(folder, CHECKPOINT, done=nothing_to_do(MAIN, values, only="train"))
    prepared = _stopped(folder, OF_PREPARE[0], done=nothing_to_do(MAIN, values, only="prepare"))
    stopped = [*trainings, *prepared]

    def delete() -> None:
        for place in stopped:
            with suppress(UserError), locked(place, "", ""):  # that of a training that runs is locked
                delete_work(place)

    what = f"checkpoints of {len(stopped)} stopped runs with other parameters" if stopped else "all is in use"
    return Part(".checkpoints", size_of([folder]), size_of(stopped), what, delete)


def _stopped(folder: Path, name: str, *, done: bool) -> list[Path]:
    """Return the folders of stopped runs, which have a file of the name; the last one is not among them unless done."""
    files = sorted(folder.glob(f"*/{name}"), key=lambda path: path.stat().st_mtime)
    places = [path.parent for path in files if KEY.fullmatch(path.parent.name.removeprefix("prepare-"))]
    return places if done else places[:-1]


def _cache(root: Path) -> Part:
    cache = cache_folder()
    if not cache.resolve().is_relative_to(root):
        return Part(
            "DVC's cache", 0, 0, f"{cache} may be shared with other projects: see `dvc gc --projects`", lambda: None
        )
    size, locks = size_of([root / ".dvc/cache"]), [MAIN.with_suffix(".lock"), *(root / ".mlflow").rglob("dvc.lock")]
    needed = set[str]().union(*(stored(lock, cache) for lock in locks))
    if {path.parent.name + path.name for path in cache.glob("??/*")} <= needed:  # else DVC reads every commit
        return Part("DVC's cache", size, 0, "all is in use", lambda: None)
    print("DVC looks which of its files a commit or an experiment names: minutes, if there are many", file=sys.stderr)
    listed = _dvc(*UNUSED)
    paths = [Path(line.removeprefix("Removing ")) for line in listed.splitlines() if line.startswith("Removing ")]
    paths = [path for path in paths if path.parent.name + path.name not in needed]
    what = "in no commit, experiment, version or dvc.lock" if paths else "all is in use"
    return Part("DVC's cache", size, size_of(paths), what, lambda: _unlink(paths))


def _unlink(paths: list[Path]) -> None:
    for path in paths:
        path.unlink(missing_ok=True)


def _dvc(*arguments: str) -> str:
    command = [sys.executable, "-m", "dvc", *arguments]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    if ended.returncode:
        raise UserError(f"`dvc {' '.join(arguments)}` failed: {ended.stderr.strip()}")
    return ended.stdout


def _mlflow(home: Path) -> Part:
    """Of the project's own store; another one is its owner's."""
    if not (home / "mlflow.db").exists() or "MLFLOW_TRACKING_URI" in os.environ:
        return Part(".mlflow", size_of([home]), 0, "runs and versions", lambda: None)
    from mlops.tracking.own_store import own_uri
    from mlops.tracking.runs import connect, deleted_runs  # only here: MLflow takes seconds to import

    client, experiment = connect()
    runs = deleted_runs(client, experiment)
    what = f"{len(runs)} runs that were deleted in MLflow" if runs else "all is in use"
    command = [sys.executable, "-m", "mlflow", "gc", "--backend-store-uri", own_uri(), "--run-ids", ",".join(runs)]

    def delete() -> None:
        if runs and subprocess.run(command, stdout=subprocess.DEVNULL, check=False).returncode:
            raise UserError("`mlflow gc` failed; read its own error above")

    return Part(".mlflow", size_of([home]), size_of(home / "artifacts" / run for run in runs), what, delete)


def size_of(paths: Iterable[Path]) -> int:
    """Return the bytes of files and of all in folders; links are nothing, and each of n names has 1/n of a file."""
    inside = (path for given in paths for path in ([given] if given.is_file() else given.rglob("*")))
    files = (path.stat() for path in inside if path.is_file() and not path.is_symlink())
    return sum(file.st_size // file.st_nlink for file in files)


@click.command()
@click.option("--dry-run", is_flag=True, help="Only print what would be deleted.")
@command_line()
def main(dry_run: bool) -> None:
    """Delete what no run, version or commit needs, and print what takes disk; outputs and decisions stay."""
    found = parts()
    table = Table("", "on disk", "needless", "", box=None, pad_edge=False)
    for part in found:
        table.add_row(part.name, decimal(part.size), decimal(part.needless), part.what)
    Console(highlight=False).print(table)
    if dry_run:
        print("nothing was deleted; `make free` deletes what is needless")
        return
    for part in found:
        if part.needless:
            part.delete()
    print(f"{decimal(sum(part.needless for part in found))} freed")


if __name__ == "__main__":
    main()
