"""The outputs of the pipelines, as their `dvc.yaml` name them, and what DVC has recorded of them."""

import json
import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML  # reads a lock's 1e-06 as a number, as DVC does; PyYAML reads a word

from mlops.project.identity import file_digest

MAIN, DENSITIES = Path("dvc.yaml"), Path("experiments/densities/dvc.yaml")
PARAMS = Path("params.yaml")
"""As in `mlops.project.params`, which takes longer to import than the stage `code` may take."""


USED = Path(".dvc/tmp/rwlock")
"""Who reads and writes which file, as DVC lists it."""


def stage_outputs(pipeline: Path) -> dict[str, list[Path]]:
    """Return the paths of each stage's outputs, by its name."""
    content = load_yaml(pipeline)

    def path(entry: str | dict[str, Any]) -> Path:
        name = entry if isinstance(entry, str) else next(iter(entry))
        return Path(content["vars"][0]["paths"][name.removeprefix("${paths.").removesuffix("}")])

    return {name: [path(entry) for entry in stage.get("outs", [])] for name, stage in content.get("stages", {}).items()}


def recorded(pipeline: Path) -> dict[Path, str]:
    """Return the md5 of each file that the lock beside a pipeline names, also of those in folders that are outputs.

    What is in a folder stands in DVC's cache; a folder that the cache lacks has no files here.
    """
    cache, files = cache_folder(), dict[Path, str]()
    for stage in load_yaml(pipeline.with_suffix(".lock")).get("stages", {}).values():
        for out in stage.get("outs", []):
            path, md5 = Path(out["path"]), out["md5"]
            if md5.endswith(".dir"):
                files |= {path / entry["relpath"]: entry["md5"] for entry in _listed(md5, cache)}
            else:
                files[path] = md5
    return files


def _listed(md5: str, cache: Path) -> list[dict[str, str]]:
    """Return the files of a folder as DVC's cache lists them; none if it has not the list."""
    listing = cache / md5[:2] / md5[2:]
    files: list[dict[str, str]] = json.loads(listing.read_text(encoding="utf-8")) if listing.is_file() else []
    return files


def stored(lock: Path, cache: Path) -> set[str]:
    """Return the names in DVC's cache of what a lock names: files, folders, and the files in these."""
    names = {out["md5"] for stage in load_yaml(lock).get("stages", {}).values() for out in stage.get("outs", [])}
    return names | {file["md5"] for name in names if name.endswith(".dir") for file in _listed(name, cache)}


def nothing_to_do(pipeline: Path, values: dict[str, Any], only: str | None = None) -> bool:
    """Return whether outputs, parameters and code are those of the lock beside a pipeline; data are not compared.

    `values` is the content of `params.yaml`. Of a single stage, `only`, what other stages made is compared as well, by
    what the lock has of them.
    """
    lock = load_yaml(pipeline.with_suffix(".lock")).get("stages", {})
    made = {out["path"]: out.get("md5") for stage in lock.values() for out in stage.get("outs", [])}
    for name, outputs in stage_outputs(pipeline).items():
        if only not in (None, name):
            continue
        stage = lock.get(name, {})
        params = stage.get("params", {}).get(PARAMS.name, {})
        deps = {dep["path"]: dep["md5"] for dep in stage.get("deps", [])}
        code = {Path(path): md5 for path, md5 in deps.items() if path.endswith(f"/{name}.json")}
        if (
            name not in lock
            or not all(path.exists() for path in outputs)
            or any(values.get(section) != value for section, value in params.items())
            or any(file_digest(path, "md5") != md5 for path, md5 in code.items())
            or (only and any(made.get(path, md5) != md5 for path, md5 in deps.items()))
        ):
            return False
    return True


def running() -> tuple[int, str] | None:
    """Return the process id and the command of a DVC that runs a stage in this project, if one does."""
    with suppress(OSError, ValueError):  # none ever did, or one writes the list now
        for user in json.loads(USED.read_text()).get("write", {}).values():
            os.kill(user["pid"], 0)  # an OSError if it is dead
            return user["pid"], user["cmd"]
    return None


def cache_folder() -> Path:
    """Return the folder in which DVC keeps files by their md5, as DVC is set."""
    command = [sys.executable, "-m", "dvc", "cache", "dir"]
    ended = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=False)
    return Path(ended.stdout.strip() or ".dvc/cache") / "files" / "md5"  # nothing outside of DVC's repositories


def load_yaml(path: Path) -> dict[str, Any]:
    """Return the content of a YAML file; nothing if it is missing or holds no mapping."""
    content = YAML(typ="safe").load(path.read_text(encoding="utf-8")) if path.exists() else None
    return content if isinstance(content, dict) else {}
