"""Where results come from: the identity of data, code and orchestration."""

import hashlib
import json
import os
import subprocess
from pathlib import Path


def project_root() -> Path:
    """Return the folder that owns tracking and checkpoints.

    DVC names the original repository in DVC_ROOT, also where an experiment runs in a temporary copy of it.
    """
    return Path(os.environ.get("DVC_ROOT", Path.cwd())).resolve()


def file_digest(path: Path, algorithm: str = "sha256") -> str:
    """Return the hexadecimal digest of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, algorithm).hexdigest()


def dvc_md5(folder: Path) -> str:
    """Return the md5 under which DVC knows a folder: that of the sorted list of its files' md5s, with `.dir` behind."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    entries = [{"md5": file_digest(path, "md5"), "relpath": path.relative_to(folder).as_posix()} for path in files]
    entries.sort(key=lambda entry: entry["relpath"])
    return hashlib.md5(json.dumps(entries, sort_keys=True).encode()).hexdigest() + ".dir"


def code_sha256(package: Path) -> str:
    """Return the sha256 over the names and contents of a package's modules."""
    digest = hashlib.sha256()
    for path in sorted(package.glob("*.py")):
        digest.update(f"{path.name}:{file_digest(path)};".encode())
    return digest.hexdigest()


def git_commit() -> str:
    """Return the commit of the working tree, with `-dirty` behind where tracked files differ; empty without git."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    return found.stdout.strip() if found.returncode == 0 else ""


def identity_tags() -> dict[str, str]:
    """Return what MLflow should know of git, DVC and Prefect, from the environment that they give to a stage."""
    tags = {
        "git.commit": git_commit(),
        "dvc.experiment": os.environ.get("DVC_EXP_NAME", ""),
        "dvc.baseline": os.environ.get("DVC_EXP_BASELINE_REV", ""),
        "prefect.flow_run_id": os.environ.get("EQUILIBRIUM_FLOW_RUN_ID", ""),
        "prefect.flow_run_name": os.environ.get("EQUILIBRIUM_FLOW_RUN_NAME", ""),
    }
    return {name: value for name, value in tags.items() if value}
