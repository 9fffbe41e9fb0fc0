"""Where results come from: the identity of data, code and orchestration."""

import hashlib
import json
import os
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path

from ruamel.yaml import YAML

UNPATCHED = ("dvc.lock", "ledger.jsonl")
"""Names of tracked files that running the pipeline changes, though they change nothing that it computes."""

LARGE = 100_000_000
"""Bytes that take a fraction of a second to hash."""


def project_root() -> Path:
    """Return the folder that owns tracking and checkpoints.

    DVC names the original repository in DVC_ROOT, also if an experiment runs in a temporary copy of it.
    """
    return Path(os.environ.get("DVC_ROOT", Path.cwd())).resolve()


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


def git_commit() -> str:
    """Return the commit of the working tree, followed by `-dirty` if `git_changes` has any; empty without git."""
    commit = _git("rev-parse", "--verify", "--quiet", "HEAD").decode().strip()
    return f"{commit}-dirty" if commit and git_changes() else commit


def git_changes() -> bytes:
    """Return the patch from the commit to the working tree's tracked files, for `git apply`; empty if none differs.

    Logs that the pipeline itself writes (`UNPATCHED`) are left out.
    """
    # Whatever a user's git is set to, the patch has the form that `git apply` expects.
    form = ("--binary", "--no-color", "--no-ext-diff", "--no-renames", "--src-prefix=a/", "--dst-prefix=b/")
    return _git("diff", "HEAD", *form, "--", ":/", *(f":(top,exclude,glob)**/{name}" for name in UNPATCHED))


def untracked_code() -> list[str]:
    """Return the modules that git does not track, so that no patch holds them."""
    listed = _git(
        "ls-files", "--others", "--exclude-standard", "-z", "--", "gan_core/*.py", "mlops/*.py", "stages/*.py"
    )
    return sorted(filter(None, listed.decode().split("\0")))


def _git(*command: str) -> bytes:
    """Return what git prints; nothing without git."""
    return subprocess.run(["git", *command], capture_output=True, check=False).stdout


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
