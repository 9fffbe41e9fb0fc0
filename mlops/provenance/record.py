"""What a version was made from, kept beside it in MLflow: `register` writes it, `commands.rebuild` reads it."""

import json
import platform
import shutil
import sys
from importlib.metadata import distributions
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pandas as pd
from ruamel.yaml import YAML  # reads a lock's 1e-06 as a number, as DVC does; PyYAML reads a word

from mlops.project import params
from mlops.project.identity import dvc_md5, file_digest, file_md5s, git_changes, git_commit, untracked_code
from mlops.project.prepared_data import MANIFEST, load_summary
from mlops.tracking.runs import RunWriter, flatten

LINEAGE = "lineage"
"""Folder among the artifacts of a run."""
LOCK, PARAMS, PATCH = "dvc.lock", params.PARAMS.name, "changes.patch"
ENVIRONMENT, FILES = "environment.txt", "files.json"
COMMIT, UNTRACKED = "git.commit", "git.untracked"
VERSION_TAGS = (COMMIT, UNTRACKED, "prefect.flow_run_id", "python", "torch", "device")


def write_lineage(writer: RunWriter, prepared: Path) -> dict[str, str]:
    """Write, once for a run, what its training was made from: files below `lineage/`, and the commit as a tag.

    The commit, the patch and the environment are those of the working tree now. Where DVC called the stage, its lock
    agrees with this tree, so that they made the outputs or would make them again.

    Args:
        writer: into the training's run.
        prepared: what `prepare` wrote.

    Returns:
        Tags for the versions that come from this run.
    """
    if FILES not in writer.artifacts(LINEAGE):
        strangers = ", ".join(untracked_code())
        if strangers:
            print(
                f"warning: git does not track {strangers}, so a rebuild will lack it; `git add` it before the next "
                f"training",
                file=sys.stderr,
            )
        writer.set_tags({name: said for name, said in ((COMMIT, git_commit()), (UNTRACKED, strangers)) if said})
        with TemporaryDirectory() as folder:
            writer.write_artifacts(_lineage_files(Path(folder), prepared), LINEAGE)
    tags = writer.tags()
    return {name: tags[name] for name in VERSION_TAGS if name in tags}


def _lineage_files(folder: Path, prepared: Path) -> list[Path]:
    """Write the files of the lineage into a folder; return their paths, the last of which says that all are there."""
    copied = [Path(LOCK), Path(PARAMS)]
    if load_summary(prepared).name == "folder":
        copied.append(prepared / MANIFEST)  # names the image that differs; what is published, `fetch` has verified
    for path in filter(Path.exists, copied):  # without DVC there is no lock
        shutil.copy(path, folder)
    (folder / PATCH).write_bytes(git_changes())
    lines = [f"{name}=={found}\n" for name, found in environment().items()]
    (folder / ENVIRONMENT).write_text("".join(lines), encoding="utf-8")
    stages = load_lock(Path(LOCK)) if Path(LOCK).exists() else {}
    known = data_files(data_folders(stages), Path()) if "train" in stages else {}
    (folder / FILES).write_text(json.dumps(known, indent=2) + "\n", encoding="utf-8")
    return sorted(folder.iterdir(), key=lambda path: path.name == FILES)


def load_lock(path: Path) -> dict[str, Any]:
    """Return the stages of a `dvc.lock` by name."""
    stages: dict[str, Any] = YAML(typ="safe").load(path.read_text(encoding="utf-8"))["stages"]
    return stages


def upstream(stages: dict[str, Any], name: str = "train") -> list[str]:
    """Return a stage and all those whose outputs reach it, by the stages of a lock; nearest first."""
    makers = {out["path"]: maker for maker, entry in stages.items() for out in entry.get("outs", [])}
    found = [name]
    for stage in found:
        found += dict.fromkeys(makers[dep["path"]] for dep in stages[stage]["deps"] if dep["path"] in makers)
    return list(dict.fromkeys(found))


def data_folders(stages: dict[str, Any]) -> dict[str, str]:
    """Return the folders that reach the training, by the stages of a lock: path and DVC's md5; nearest first."""
    deps = (dep for name in upstream(stages) for dep in stages[name]["deps"])
    return {dep["path"]: dep["md5"] for dep in deps if dep["md5"].endswith(".dir")}


def data_files(folders: dict[str, str], place: Path) -> dict[str, str]:
    """Return the md5 of folders and of every file below them.

    Args:
        folders: relative path and DVC's md5.
        place: the project in which the folders are.

    Returns:
        md5 by relative path; files only of those folders that are there and have the given md5.
    """
    known = {}
    for folder, md5 in folders.items():
        known[folder] = md5
        if (place / folder).is_dir() and dvc_md5(place / folder) == md5:
            known |= {f"{folder}/{name}": found for name, found in file_md5s(place / folder).items()}
    return known


def code_and_numbers(stages: dict[str, Any], names: list[str]) -> dict[str, str]:
    """Return the md5 of the code that stages read, and the values of the parameters, by the stages of a lock."""
    known: dict[str, str] = {}
    for name in names:
        known |= {dep["path"]: dep["md5"] for dep in stages[name]["deps"] if not dep["md5"].endswith(".dir")}
        known |= _numbers(stages[name].get("params", {}).get(PARAMS, {}))
    return known


def code_and_numbers_at(place: Path, like: dict[str, str]) -> dict[str, str]:
    """Return the same of a project as it is: of each name in `like`, where the project has it."""
    values = _numbers(YAML(typ="safe").load((place / PARAMS).read_text(encoding="utf-8")))
    files = {name: file_digest(place / name, "md5") for name in like if (place / name).is_file()}
    return {name: values[name] for name in like if name in values} | files


def _numbers(sections: dict[str, Any]) -> dict[str, str]:
    return {name: str(value) for name, value in flatten(sections).items()}


def environment() -> dict[str, str]:
    """Return what the bits of a training depend on besides its inputs: Python, machine, and every installed package."""
    import torch  # only here: it takes two seconds to import, and registering a second time needs none of it

    packages = {found.metadata["Name"]: found.version for found in distributions() if found.metadata["Name"]}
    return {
        "python": platform.python_version(),
        "platform": f"{platform.system()}-{platform.machine()}",
        "cpu": torch.backends.cpu.get_cpu_capability(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else "none",
    } | {name: packages[name] for name in sorted(packages, key=str.lower)}


def differences(then: dict[str, str], now: dict[str, str]) -> dict[str, str]:
    """Return what differs by name, each with both values; a file is new only where the files then are known."""
    listed = {name.rpartition("/")[0] for name in then}
    names = [*then, *(name for name in now if name not in then and name.rpartition("/")[0] in listed)]
    return {
        name: f"{then.get(name, 'absent')} then, {now.get(name, 'absent')} now"
        for name in names
        if then.get(name) != now.get(name)
    }


def changed_images(then: Path, now: Path) -> list[str]:
    """Return the source images that two manifests do not share, or whose pixels differ."""
    columns = ["source", "split", "sha256", "refused"]
    rows = [set(pd.read_parquet(path)[columns].fillna("").itertuples(index=False, name=None)) for path in (then, now)]
    return sorted({source for source, *_ in rows[0] ^ rows[1]})
