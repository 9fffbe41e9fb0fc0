"""The lineage of a version, kept beside it in MLflow: `register` writes it, `commands.rebuild` reads it."""

import platform
import sys
from importlib.metadata import distributions
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pandas as pd
from ruamel.yaml import YAML  # reads a lock's 1e-06 as a number, as DVC does; PyYAML reads a word

from mlops.project import params
from mlops.project.errors import UserError
from mlops.project.identity import WorkingTree, dvc_md5, file_digest, file_md5s, working_tree
from mlops.project.prepared_data import MANIFEST, load_summary
from mlops.project.result_files import load_json, save_json
from mlops.tracking.run_writer import RunWriter
from mlops.tracking.runs import flatten

LINEAGE = "lineage"
"""Folder among the artifacts of a run."""
LOCK, PARAMS, PATCH = "dvc.lock", params.PARAMS.name, "changes.patch"
ENVIRONMENT, FILES = "environment.txt", "files.json"
COMMIT, UNTRACKED = "git.commit", "git.untracked"
VERSION_TAGS = (COMMIT, UNTRACKED, "prefect.flow_run_id", "python", "torch", "device")


def write_lineage(writer: RunWriter, prepared: Path) -> dict[str, str]:
    """Write the inputs of a training into its run, once; return tags for the versions that come from this run.

    The files are below `lineage/`. Commit, patch and environment are those of the working tree now: if DVC called the
    stage, its lock agrees with this tree, so they made the outputs or would make them again. If git cannot tell commit
    and patch, a warning has the remedy, and a later call adds them.
    """
    sizes = {Path(file.path).name: file.file_size for file in writer.client.list_artifacts(writer.id, LINEAGE)}
    commit = writer.client.get_run(writer.id).data.tags.get(COMMIT, "")
    complete = {FILES, PATCH} <= sizes.keys() and bool(commit) and commit.endswith("-dirty") == bool(sizes[PATCH])
    tree = None if complete else _tree()
    if tree is not None or FILES not in sizes:
        _write(writer, tree, prepared)
    tags = writer.client.get_run(writer.id).data.tags
    return {name: tags[name] for name in VERSION_TAGS if name in tags}


def _tree() -> WorkingTree | None:
    """Return the working tree; if git cannot tell it, None and a warning."""
    try:
        tree = working_tree()
    except UserError as error:
        print(f"warning: this version cannot be rebuilt until it is registered with git: {error}", file=sys.stderr)
        return None
    if tree.untracked:
        names = ", ".join(tree.untracked)
        print(f"warning: git does not track {names}, so a rebuild will lack it; `git add` it", file=sys.stderr)
    return tree


def _write(writer: RunWriter, tree: WorkingTree | None, prepared: Path) -> None:
    if tree is not None:
        tags = {COMMIT: tree.commit, UNTRACKED: ", ".join(tree.untracked)}
        writer.set_tags({name: value for name, value in tags.items() if value})
    with TemporaryDirectory() as folder:
        writer.write_files(_lineage_files(Path(folder), tree, prepared), LINEAGE)


def _lineage_files(folder: Path, tree: WorkingTree | None, prepared: Path) -> list[Path]:
    """Return the files of the lineage, `FILES` last: it marks the rest as complete; some are written into a folder."""
    copied = [Path(LOCK), Path(PARAMS)]
    if load_summary(prepared).name == "folder":
        copied.append(prepared / MANIFEST)  # to name an image that differs; `fetch` has verified published data
    if tree is not None:
        (folder / PATCH).write_bytes(tree.patch)
    lines = [f"{name}=={value}\n" for name, value in environment().items()]
    (folder / ENVIRONMENT).write_text("".join(lines), encoding="utf-8")
    stages = load_lock(Path(LOCK)) if Path(LOCK).exists() else {}
    digests = data_files(data_folders(stages), Path()) | code_files(stages, Path()) if "train" in stages else {}
    save_json(folder / FILES, digests)
    made = [folder / PATCH, folder / ENVIRONMENT, folder / FILES]
    return [path for path in (*copied, *made) if path.exists()]  # without DVC there is no lock


def load_lock(path: Path) -> dict[str, Any]:
    """Return the stages of a `dvc.lock` by name."""
    stages: dict[str, Any] = YAML(typ="safe").load(path.read_text(encoding="utf-8"))["stages"]
    return stages


def upstream(stages: dict[str, Any], name: str = "train") -> list[str]:
    """Return a stage and all those whose data reach it, by the stages of a lock; nearest first.

    The stage `code` is none of them: others depend on single files in its folder.
    """
    makers = {out["path"]: maker for maker, entry in stages.items() for out in entry.get("outs", [])}
    names = [name]
    for stage in names:
        names += dict.fromkeys(makers[dep["path"]] for dep in stages[stage]["deps"] if dep["path"] in makers)
    return list(dict.fromkeys(names))


def data_folders(stages: dict[str, Any]) -> dict[str, str]:
    """Return the data folders that reach the training, by the stages of a lock: path and DVC's md5; nearest first."""
    deps = (dep for name in upstream(stages) for dep in stages[name]["deps"])
    return {dep["path"]: dep["md5"] for dep in deps if dep["md5"].endswith(".dir")}


def data_files(folders: dict[str, str], place: Path) -> dict[str, str]:
    """Return the md5 of folders (given with DVC's md5) and, if a project's folder has it, of every file below."""
    md5s = dict(folders)
    for folder, md5 in folders.items():
        if (place / folder).is_dir() and dvc_md5(place / folder) == md5:
            md5s |= {f"{folder}/{name}": file_md5 for name, file_md5 in file_md5s(place / folder).items()}
    return md5s


def code_files(stages: dict[str, Any], place: Path) -> dict[str, str]:
    """Return the sha256 of each Python file that made the training, as a project's stage `code` has listed them.

    A lock from before there was that stage names these files itself; then nothing is listed.
    """
    listings = [place / name for name in code_and_numbers(stages, upstream(stages)) if name.endswith(".json")]
    return {name: sha256 for path in listings if path.is_file() for name, sha256 in load_json(path).items()}


def code_and_numbers(stages: dict[str, Any], names: list[str]) -> dict[str, str]:
    """Return the md5 of single files that stages depend on, and the values of parameters, by the stages of a lock."""
    inputs: dict[str, str] = {}
    for name in names:
        inputs |= {dep["path"]: dep["md5"] for dep in stages[name]["deps"] if not dep["md5"].endswith(".dir")}
        inputs |= _numbers(stages[name].get("params", {}).get(PARAMS, {}))
    return inputs


def code_and_numbers_at(place: Path, like: dict[str, str]) -> dict[str, str]:
    """Return the same of a project as it is: of each name in `like` that it has."""
    values = _numbers(YAML(typ="safe").load((place / PARAMS).read_text(encoding="utf-8")))
    files = {name: file_digest(place / name, "md5") for name in like if (place / name).is_file()}
    return {name: values[name] for name in like if name in values} | files


def _numbers(sections: dict[str, Any]) -> dict[str, str]:
    return {name: str(value) for name, value in flatten(sections).items()}


def environment() -> dict[str, str]:
    """Return what the bits of a training depend on besides its inputs: Python, machine, and all installed packages."""
    import torch  # only here: it takes two seconds to import, and registering a second time needs none of it

    packages = {package.metadata["Name"]: package.version for package in distributions() if package.metadata["Name"]}
    return {
        "python": platform.python_version(),
        "platform": f"{platform.system()}-{platform.machine()}",
        "cpu": torch.backends.cpu.get_cpu_capability(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else "none",
    } | {name: packages[name] for name in sorted(packages, key=str.lower)}


def differences(then: dict[str, str], now: dict[str, str]) -> dict[str, str]:
    """Return what differs by name, each with both values; a new file counts only in a folder of files listed then."""
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
