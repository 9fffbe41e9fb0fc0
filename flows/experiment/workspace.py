"""A workspace of its own for a run: a clone of a commit, with the cache, MLflow and ledger of the project."""

import fcntl
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from configparser import ConfigParser
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from prefect import get_run_logger

from flows.environment import of_children
from flows.experiment.dvc import mend_lock
from flows.failure import StageFailedError, own_error

FOLDER = ".workspaces"
"""In the project's folder: a workspace for each run that works or has failed; `make free` deletes the latter."""
REMOTE, GIVEN = "EQUILIBRIUM_DVC_REMOTE", "given"
"""Environment variable with the address of a remote, and its name in DVC's settings."""
LOCK = "lock"
"""Beside a clone, locked by its run as long as this lasts."""


@dataclass(frozen=True)
class Workspace:
    """Where a run works: `folder` is the project in a clone, `home` the project that was cloned."""

    home: Path
    place: Path
    folder: Path
    commit: str

    @contextmanager
    def entered(self, experiment: str) -> Iterator[None]:
        """Work in the folder while the block lasts; DVC_ROOT names the project, as in DVC's own experiments."""
        variables = {"DVC_ROOT": str(self.home), "DVC_EXP_NAME": experiment, "DVC_EXP_BASELINE_REV": self.commit}
        before, old = Path.cwd(), {name: os.environ.get(name) for name in variables}
        os.chdir(self.folder)
        os.environ.update(variables)
        mend_lock()
        try:
            yield
        finally:
            os.chdir(before)
            for name, value in old.items():
                os.environ.pop(name)
                os.environ.update({} if value is None else {name: value})

    def write_parameters(self, preset: str, data: str, overrides: Mapping[str, Any]) -> None:
        """Write `params.yaml` as it is asked for; if that is not valid, it is a StageFailedError."""
        question = json.dumps({"preset": preset, "data": data, "overrides": overrides})
        output([sys.executable, "-m", "mlops.parameters.asked"], self.folder, question, DVC_ROOT=str(self.home))

    def remove(self) -> None:
        """Delete all of it."""
        shutil.rmtree(self.place)


@contextmanager
def workspace(home: Path, name: str, commit: str) -> Iterator[Workspace]:
    """Make a workspace, or take the one that an earlier try of the run left, and lock it while the block lasts.

    Args:
        home: the project.
        name: of the folder in `.workspaces/`.
        commit: of the project; empty for the last one.

    Yields:
        The workspace.

    Raises:
        StageFailedError: git or DVC refuses.
    """
    place = home / FOLDER / name
    place.mkdir(parents=True, exist_ok=True)
    with (place / LOCK).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        top, prefix = (output(["git", "rev-parse", f"--show-{part}"], home).strip() for part in ("toplevel", "prefix"))
        try:
            _complete(home)
            sha = _found(home, commit or "HEAD")
        except StageFailedError:
            shutil.rmtree(place)
            raise
        clone = place / "clone"
        if not (clone / prefix / "dvc.yaml").exists():
            shutil.rmtree(clone, ignore_errors=True)
            output(["git", "clone", "--quiet", "--no-checkout", top, str(clone)], home)
            output(["git", "checkout", "--quiet", "--detach", sha], clone)
            _share(home, clone / prefix)
        yield Workspace(home, place, clone / prefix, sha)


def _complete(home: Path) -> None:
    """Fetch the history that Prefect's clone on a worker lacks: git clones none of its other commits."""
    if given_remote() and output(["git", "rev-parse", "--is-shallow-repository"], home).strip() == "true":
        output(["git", "fetch", "--quiet", "--unshallow", "origin"], home)


def _found(home: Path, commit: str) -> str:
    """Return the whole hash of a commit, which is fetched from where the project was cloned from if it is not there."""
    if commit.startswith("-"):
        raise StageFailedError(f"commit: {commit} is an option of git, not a commit; name a hash, branch or tag")
    search = ["git", "rev-parse", "--verify", "--quiet", f"{commit}^{{commit}}"]
    with suppress(StageFailedError):
        return output(search, home).strip()
    try:
        output(["git", "fetch", "--quiet", "origin", commit], home)
        return output(["git", "rev-parse", "--verify", "--quiet", "FETCH_HEAD^{commit}"], home).strip()
    except StageFailedError as error:
        raise StageFailedError(
            f"commit {commit} is neither in {home} nor where that was cloned from ({error}); push it from where it was "
            "made, or name another one"
        ) from None


@contextmanager
def one_at_a_time(home: Path) -> Iterator[None]:
    """Lock the project's own folder while the block lasts; a second run in it waits."""
    (home / FOLDER).mkdir(exist_ok=True)
    with (home / FOLDER / LOCK).open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            get_run_logger().info(f"waiting for the run that works in {home}")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _share(home: Path, project: Path) -> None:
    """Give a clone the settings of DVC that the project has, also those that git ignores; its cache is the project's.

    A relative place in them starts at the folder `.dvc` that they stand in.
    """
    settings = ConfigParser(interpolation=None, delimiters=("=",), strict=False)
    settings.read([home / ".dvc" / "config", home / ".dvc" / "config.local"], encoding="utf-8")
    for section in settings.sections():
        url = settings.get(section, "url", fallback="")
        if url and not re.match(r"[\w+]+://|/|~", url):
            settings.set(section, "url", os.path.normpath(home / ".dvc" / url))
    if url := given_remote():
        settings.read_dict({"core": {"remote": GIVEN}, f"'remote \"{GIVEN}\"'": {"url": url}})
    if not settings.has_section("cache"):
        settings.add_section("cache")
    cache = output([sys.executable, "-m", "dvc", "cache", "dir"], home).strip()
    settings.set("cache", "dir", str(home / cache))
    with (project / ".dvc" / "config.local").open("w", encoding="utf-8") as file:
        settings.write(file)


@contextmanager
def alone(project: Path) -> Iterator[Path]:
    """Make a folder for DVC with the remotes and the cache of a project and nothing else, while the block lasts."""
    (project / FOLDER).mkdir(exist_ok=True)
    with TemporaryDirectory(dir=project / FOLDER) as made:
        folder = Path(made)
        (folder / ".dvc").mkdir()
        (folder / ".dvc" / "config").write_text("[core]\n    no_scm = true\n    analytics = false\n")
        _share(project, folder)
        yield folder


def given_remote() -> str:
    """Return the address of the remote of DVC by which a worker without a project of its own shares results."""
    return os.environ.get(REMOTE, "")


def uncommitted(home: Path) -> list[str]:
    """Return the tracked files that a clone has otherwise, but for those that running the pipeline changes."""
    lines = output(["git", "status", "--porcelain", "--untracked-files=no", "--", "."], home).splitlines()
    return [line[3:] for line in lines if Path(line[3:]).name not in ("dvc.lock", "ledger.jsonl")]


def output(command: list[str], folder: Path, text: str | None = None, *, check: bool = True, **variables: str) -> str:
    """Return what a command prints in a folder; if it fails, a StageFailedError has its error, unless not `check`."""
    ended = subprocess.run(
        command,
        cwd=folder,
        input=text,
        capture_output=True,
        text=True,
        errors="replace",
        env=of_children() | variables,
        check=False,
    )
    if ended.returncode and check:
        lines = [line for line in (ended.stdout + ended.stderr).splitlines() if line]
        raise StageFailedError(own_error(lines).removeprefix("fatal: "))
    return ended.stdout
