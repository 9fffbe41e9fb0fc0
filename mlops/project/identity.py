"""Where results come from: the identity of data, code and orchestration."""

import hashlib
import json
import os
import platform
import re
import stat
import subprocess
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from ruamel.yaml import YAML

from mlops.project.errors import UserError

UNPATCHED = ("dvc.lock", "ledger.jsonl")
"""Names of tracked files that running the pipeline changes, though they change nothing that it computes."""
GIT_LOCATION = {
    *("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY", "GIT_ALTERNATE_OBJECT_DIRECTORIES"),
    *("GIT_COMMON_DIR", "GIT_PREFIX", "GIT_IMPLICIT_WORK_TREE", "GIT_INTERNAL_SUPER_PREFIX", "GIT_SHALLOW_FILE"),
    *("GIT_GRAFT_FILE", "GIT_NO_REPLACE_OBJECTS", "GIT_REPLACE_REF_BASE", "GIT_CONFIG", "GIT_DIFF_OPTS"),
    *("GIT_LITERAL_PATHSPECS", "GIT_GLOB_PATHSPECS", "GIT_NOGLOB_PATHSPECS", "GIT_ICASE_PATHSPECS"),
}
"""Variables by which git works on another repository than that of its folder, or reads paths in another way."""

LARGE = 100_000_000
"""Bytes that take a fraction of a second to hash."""


def project_root() -> Path:
    """Return the folder that owns tracking and checkpoints.

    DVC names the original repository in DVC_ROOT, also if an experiment runs in a temporary copy of it.
    """
    return Path(os.environ.get("DVC_ROOT", Path.cwd())).resolve()


def located(path: str, what: str) -> Path:
    """Return where a path of a person leads: `~` is a home folder, and a relative one starts at the project's root.

    A path that no file can have here, or that may not be looked at, is a UserError, which begins with `what`, as is a
    device, a pipe or a socket, which would be read for ever; one at which there is nothing is returned.
    """
    try:
        if not path.strip():
            raise ValueError("it is empty")
        place = project_root() / Path(path).expanduser()
        with suppress(FileNotFoundError, NotADirectoryError):
            mode = place.stat().st_mode
            if not (stat.S_ISDIR(mode) or stat.S_ISREG(mode)):
                raise ValueError("it is a device, a pipe or a socket")
        return place
    except (OSError, RuntimeError, ValueError) as error:
        shown = path if len(path) <= 80 else f"{path[:80]}... ({len(path):,} characters)"
        reason = error.strerror if isinstance(error, OSError) else error
        raise UserError(f"{what}: {shown!r} is no path of a file here ({reason}); correct it") from None


def file_digest(path: Path, algorithm: str = "sha256") -> str:
    """Return the hexadecimal digest of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, algorithm).hexdigest()


def file_md5s(folder: Path) -> dict[str, str]:
    """Return the md5 of every file below a folder by its relative path, sorted: DVC's listing of the folder."""
    files = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    return {name: file_digest(files[name], "md5") for name in sorted(files)}


def dvc_md5(folder: Path) -> str:
    """Return DVC's md5 of a folder: that of the sorted list of its files' md5s, followed by `.dir`.

    In a stage that DVC runs, that of a large folder is read from `dvc.lock`, which DVC has written after hashing the
    folder, unless a file is newer.
    """
    if "DVC_STAGE" in os.environ and (recorded := _recorded_md5(folder)):
        return recorded
    entries = [{"md5": md5, "relpath": name} for name, md5 in file_md5s(folder).items()]
    return hashlib.md5(json.dumps(entries, sort_keys=True).encode()).hexdigest() + ".dir"


def _recorded_md5(folder: Path) -> str | None:
    files, lock = [path.stat() for path in folder.rglob("*") if path.is_file()], Path("dvc.lock")
    size, written = sum(file.st_size for file in files), max((file.st_mtime for file in files), default=0.0)
    if size <= LARGE or not lock.exists() or lock.stat().st_mtime < written:
        return None
    stages = YAML(typ="safe").load(lock.read_text(encoding="utf-8")).get("stages", {}).values()
    outs = [out for stage in stages for out in stage.get("outs", [])]
    known = [out["md5"] for out in outs if out["path"] == folder.as_posix() and out["size"] == size]
    return known[0] if known else None


@dataclass(frozen=True)
class WorkingTree:
    """The working tree as git has it.

    `commit` is followed by `-dirty` if there is a patch, `patch` leads from it to the tracked files of the project's
    folder (for `git apply`), and `untracked` are the modules that no patch holds.
    """

    commit: str
    patch: bytes
    untracked: tuple[str, ...]


def working_tree() -> WorkingTree:
    """Return the state of the working tree; if git refuses, that is a UserError.

    Logs that the pipeline itself writes (`UNPATCHED`) are left out of the patch.
    """
    commit = git("rev-parse", "--verify", "HEAD").decode().strip()
    # Whatever a user's git is set to, the patch has the form that `git apply` expects.
    prefixes = ("--src-prefix=a/", "--dst-prefix=b/", "--no-relative")
    form = ("--binary", "--no-color", "--no-ext-diff", "--no-textconv", "--no-renames", "--unified=3", *prefixes)
    patch = git("diff", "HEAD", *form, "--", ".", *(f":(exclude,glob)**/{name}" for name in UNPATCHED))
    code = ("gan_core/*.py", "mlops/*.py", "stages/*.py")
    untracked = os.fsdecode(git("ls-files", "--others", "--exclude-standard", "-z", "--", *code))
    names = sorted(filter(None, untracked.split("\0")))
    return WorkingTree(f"{commit}-dirty" if patch else commit, patch, tuple(names))


def git_commit() -> str:
    """Return the commit of the working tree, as in `working_tree`; empty if git refuses."""
    try:
        return working_tree().commit
    except UserError:
        return ""


def git(*command: str, folder: Path | None = None) -> bytes:
    """Return what git prints in a folder, by default the working one.

    If there is no git or no repository, if git does not trust its owner, or the command fails, the UserError has the
    remedy. Variables that name another repository (git sets them for hooks) do not count.
    """
    place = folder or Path.cwd()
    try:
        ended = subprocess.run(
            ["git", *command], cwd=place, env=own_repository() | {"LC_ALL": "C"}, capture_output=True, check=False
        )
    except (FileNotFoundError, PermissionError):
        raise UserError("there is no program `git` on this machine; install it (apt install git)") from None
    if ended.returncode:
        raise UserError(_refusal(command, ended.stderr.decode(errors="replace").strip(), place))
    return ended.stdout


def own_repository() -> dict[str, str]:
    """Return the environment without the variables by which git works on another repository than its folder's."""
    return {name: value for name, value in os.environ.items() if name not in GIT_LOCATION}


def _refusal(command: tuple[str, ...], message: str, place: Path) -> str:
    """Return what happened to a command of git and the remedy."""
    if "dubious ownership" in message:
        owned = re.search(r"repository at '(.*?)'", message)
        return (
            f"git does not trust {place}, because another user owns it; allow it with "
            f"`git config --global --add safe.directory '{owned[1] if owned else place}'`"
        )
    if "not a git repository" in message:
        return (
            f"{place} is in no git repository; clone the project with git, or make one here: "
            "`git init && git add . && git commit -m start`"
        )
    if command[0] == "rev-parse" and "Needed a single revision" in message:
        return f"the git repository of {place} has no commit yet; make one: `git add . && git commit -m start`"
    return f"`git {' '.join(command)}` failed in {place}: {message}"


def identity_tags() -> dict[str, str]:
    """Return tags for MLflow: versions, commit, DVC experiment and Prefect run of the stage that runs."""
    tags = {
        "python": platform.python_version(),
        "torch": version("torch"),
        "git.commit": git_commit(),
        "dvc.experiment": os.environ.get("DVC_EXP_NAME", ""),
        "dvc.baseline": os.environ.get("DVC_EXP_BASELINE_REV", ""),
        "prefect.flow_run_id": os.environ.get("EQUILIBRIUM_FLOW_RUN_ID", ""),
        "prefect.flow_run_name": os.environ.get("EQUILIBRIUM_FLOW_RUN_NAME", ""),
    }
    return {name: value for name, value in tags.items() if value}
