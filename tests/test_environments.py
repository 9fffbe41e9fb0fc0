"""`make run`, `make rebuild` and `make ui` on machines and in folders that people have."""

import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.project import Project, environment
from tests.servers import Deployment, answers, end, free_port, wait_for

REGISTRATION = Path("reports/registration.json")
PROXY = "http://127.0.0.1:9"
GIT = ("git", "-c", "user.name=test", "-c", "user.email=test@example.org")
NAMELESS = ("unshare", "--user", "--map-user=12345", "--map-group=12345")
"""A user id that no file names, as a container's."""


@dataclass
class Place:
    """A project, and how commands run there."""

    root: Path
    variables: dict[str, str] = field(default_factory=dict)
    prefix: tuple[str, ...] = ()

    def make(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a target of the Makefile with the virtual environment of these tests."""
        if not (self.root / ".venv").exists():
            (self.root / ".venv").symlink_to(sys.prefix)
        return subprocess.run(
            [*self.prefix, "make", "--silent", *arguments],
            cwd=self.root,
            env=environment(**self.variables),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            encoding="utf-8",
            check=False,
        )

    def serve(self, log: Path) -> tuple[list[str], int]:
        """Run `make ui` until it prints both addresses; return those that then answer, and its exit status."""
        ports = {"MLFLOW_PORT": str(free_port()), "PREFECT_PORT": str(free_port())}
        with log.open("wb") as output:
            process = subprocess.Popen(
                [*self.prefix, "make", "--silent", "ui"],
                cwd=self.root,
                env=environment(**self.variables | ports),
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            wait_for(lambda: len(addresses(log)) == 2, f"no addresses; see {log}", process)
            answered = [address for address in addresses(log) if answers(address)]
            os.killpg(process.pid, signal.SIGINT)
            return answered, process.wait(60)
        finally:
            end(process)


def moved(finished: Project, folder: Path) -> Place:
    """Move a project into a folder with an odd name; HOME cannot be written, proxies are dead, output is coloured.

    DVC was killed in it while it wrote its list of used files.
    """
    copy = finished.copy(folder / "before")
    (copy.root / ".dvc/tmp/rwlock").write_bytes(b"")
    (copy.root / ".dvc/tmp/rwlock.lock").touch()
    odd = folder / "o d" / "q?m #1 %20 $x 'q' ü&"
    odd.parent.mkdir()
    copy.root.rename(odd)
    home = folder / "home"
    home.mkdir(mode=0o555)
    proxies = {name: PROXY for kind in ("http", "https") for name in (f"{kind}_proxy", f"{kind}_proxy".upper())}
    return Place(odd, {"HOME": str(home), "LC_ALL": "C", "FORCE_COLOR": "1", **proxies})


def in_a_worktree_of_a_monorepo(finished: Project, folder: Path) -> Place:
    """Reach by a link a worktree of a repository with CRLF, of which the project is a folder; others are in variables.

    Another training is asked for, whose commit is in this repository.
    """
    top, tree, other = folder / "mono", folder / "tree", folder / "other"
    subprocess.run([*GIT, "init", "-q", top], check=True)
    subprocess.run([*GIT, "init", "-q", other], check=True)
    subprocess.run([*GIT, "config", "core.autocrlf", "true"], cwd=top, check=True)
    inside = Path("models", "gan")
    shutil.copytree(finished.root, top / inside, symlinks=True, ignore=shutil.ignore_patterns(".git"))
    Project(top / inside).set(train={"seed": 3})
    Project(top / inside).commit()
    subprocess.run([*GIT, "worktree", "add", "-q", "--detach", tree], cwd=top, check=True)
    shutil.copytree(top / inside, tree / inside, symlinks=True, dirs_exist_ok=True)
    (folder / "link").symlink_to(tree)
    variables = {"GIT_DIR": str(other / ".git"), "GIT_WORK_TREE": str(other), "GIT_INDEX_FILE": str(other / "index")}
    return Place(folder / "link" / inside, variables)


def of_another_owner(finished: Project, folder: Path) -> Place:
    """Give a project to another user, so that git refuses it, and make its outputs links into DVC's cache."""
    copy = finished.copy(folder / "project")
    copy.dvc("config", "--local", "cache.type", "symlink")
    copy.dvc("checkout", "--relink", "dvc.yaml")
    for path in (copy.root, *copy.root.rglob("*")):
        os.chown(path, 12345, 12345, follow_symlinks=False)
    return Place(copy.root)


def without_git(finished: Project, folder: Path) -> Place:
    """Run as a user without a name or a home, on a machine without git."""
    copy = finished.copy(folder / "project")
    programs = folder / "bin"
    programs.mkdir()
    for path in (path for place in os.environ["PATH"].split(":") for path in Path(place).glob("*")):
        if path.name != "git" and not os.path.lexists(programs / path.name):
            (programs / path.name).symlink_to(path)
    return Place(copy.root, {"PATH": str(programs), "HOME": "/nonexistent", "LOGNAME": "", "USER": ""}, NAMELESS)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arrange", "skipped", "server", "is_rebuilt"),
    [
        (moved, 10, False, None),
        (in_a_worktree_of_a_monorepo, 4, True, True),
        (of_another_owner, 10, True, False),
        (without_git, 10, False, False),
    ],
)
def test_a_finished_project_runs_and_is_rebuilt(
    arrange: Callable[[Project, Path], Place],
    skipped: int,
    server: bool,
    is_rebuilt: bool | None,
    finished: Project,
    deployed: Deployment,
    tmp_path: Path,
) -> None:
    before = bytes_of(finished.root / ".mlflow")
    place = arrange(finished, tmp_path)
    if server:
        place.variables["PREFECT_API_URL"] = f"{deployed.address}/api"
    (tmp_path / "ui.log").touch()
    around = {path.name for path in place.root.parent.iterdir()}
    ran = place.make("run")
    assert ran.returncode == 0, ran.stdout
    assert unchanged(ran.stdout) == skipped, ran.stdout
    assert "Traceback" not in ran.stdout
    if is_rebuilt is not None:
        rebuilt = place.make("rebuild", "MODEL=" + json.loads((place.root / REGISTRATION).read_text())["version"])
        weights = hashlib.sha256((place.root / "models/generator.safetensors").read_bytes()).hexdigest()
        assert (rebuilt.returncode == 0) == (weights in rebuilt.stdout) == is_rebuilt, rebuilt.stdout
        assert sum(line.startswith("error: ") for line in rebuilt.stdout.splitlines()) == (not is_rebuilt)
        assert "Traceback" not in rebuilt.stdout
    pages, _ = place.serve(tmp_path / "ui.log")
    assert len(pages) == 2
    assert bytes_of(finished.root / ".mlflow") == before
    assert {path.name for path in place.root.parent.iterdir()} == around
    if "GIT_DIR" in place.variables:
        assert list((tmp_path / "other").iterdir()) == [tmp_path / "other" / ".git"]
        assert not (tmp_path / "other" / ".git" / "index").exists()


def addresses(log: Path) -> list[str]:
    return re.findall(r"^\w+ +(http://[^/]+/)\S+$", log.read_text(encoding="utf-8"), re.MULTILINE)


def unchanged(output: str) -> int:
    """Return how many stages `make run` left as they were: their names are between a colon and `are up to date`."""
    lines = [line for line in output.splitlines() if line.startswith(("unchanged: ", "nothing to do: "))]
    return sum(len(line.partition(": ")[2].split(", ")) for line in lines)


def bytes_of(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def no_repository(project: Project) -> str:
    shutil.rmtree(project.root / ".git")
    return "git init"


def data_is_a_link(project: Project) -> str:
    (project.root / "data").rename(project.root.parent / "data")
    (project.root / "data").symlink_to(project.root.parent / "data")
    return "dvc cache dir"


def no_number(project: Project) -> str:
    project.set(train={"steps": "many"})
    return "params.yaml: train.steps"


def dead_store(project: Project) -> str:
    project.variables["MLFLOW_TRACKING_URI"] = "http://127.0.0.1:9"
    project.set(train={"seed": 2})
    return "MLFLOW_TRACKING_URI=http://127.0.0.1:9"


def dead_prefect(project: Project) -> str:
    project.variables["PREFECT_API_URL"] = "http://127.0.0.1:9/api"
    return "PREFECT_API_URL=http://127.0.0.1:9/api"


@pytest.mark.parametrize("arrange", [no_repository, data_is_a_link, no_number, dead_store, dead_prefect])
def test_what_can_be_known_at_once_is_one_error_at_once(
    arrange: Callable[[Project], str], finished: Project, tmp_path: Path
) -> None:
    project = finished.copy(tmp_path / "copy")
    named = arrange(project)
    ended = Place(project.root, project.variables).make("run")
    assert ended.returncode != 0
    (line,) = [line for line in ended.stdout.splitlines() if not re.match(r"make(\[\d+\])?: ", line)]
    assert line.startswith("error: ")
    assert named in line
    assert "Starting temporary server" not in ended.stdout


def test_line_ends_of_git_change_nothing(finished: Project, tmp_path: Path) -> None:
    for setting in ("false", "true"):
        command = ["git", "clone", "-q", "-c", f"core.autocrlf={setting}", str(finished.root), str(tmp_path / setting)]
        subprocess.run(command, check=True)
    files = {path.relative_to(tmp_path / "false") for path in (tmp_path / "false").rglob("*") if path.is_file()}
    tracked = [path for path in files if path.parts[0] != ".git"]
    assert Path("params.yaml") in tracked
    assert [
        path for path in tracked if (tmp_path / "true" / path).read_bytes() != (tmp_path / "false" / path).read_bytes()
    ] == []
