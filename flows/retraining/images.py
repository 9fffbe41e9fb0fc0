"""Whether the images have a new version, and the one before: DVC has both."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from prefect import get_run_logger

from flows.experiment.workspace import alone, output
from flows.failure import StageFailedError

DVC = (sys.executable, "-m", "dvc")
READERS = {"prepared": "register", "extractor": "evaluate"}
"""Paths of `dvc.yaml`, and the last stage that reads each: what its entry in `dvc.lock` names went to the gate."""


def update() -> str:
    """Bring images that `dvc import` or `dvc import-url` brought here up to date; return which, empty if none is new.

    The source is asked by DVC: another repository, a bucket, a web server, a folder. What a person has changed in the
    imported images is a StageFailedError, for an update would delete it.
    """
    path = yaml.safe_load(Path("params.yaml").read_text())["data"]["path"]
    place = Path(path or "").expanduser().absolute()
    files = [Path(f"{folder}.dvc") for folder in (place, *place.parents) if folder.is_relative_to(Path.cwd())]
    tracked = next((file for file in files if path and file.is_file()), None)
    if tracked is None:
        return ""
    file = str(tracked.relative_to(Path.cwd()))
    before = tracked.read_bytes()
    imported = "deps" in yaml.safe_load(before)
    if {"modified", "not in cache"} & {*_outputs(file)}:
        if imported:
            raise StageFailedError(
                f"images of {file} are not as they were imported, and `dvc update` would delete what is new in them; "
                f"keep that elsewhere and type `dvc checkout --force {file}`"
            )
        get_run_logger().warning(f"images of {file} are not as it names them: the training takes them as they are")
    if not imported:
        return ""
    try:
        output([*DVC, "update", file], Path.cwd())
    except StageFailedError as error:
        raise StageFailedError(f"{file}: its source cannot be read ({error}); correct it or your credentials") from None
    return file if tracked.read_bytes() != before else ""


def _outputs(file: str) -> Iterator[str]:
    """Yield the state of each output of a .dvc file that is not as the file names it."""
    for changes in json.loads(output([*DVC, "status", "--json", file], Path.cwd())).values():
        for change in changes:
            yield from change.get("changed outs", {}).values() if isinstance(change, dict) else ()


def former(paths: dict[str, str]) -> dict[str, dict[str, Any]]:
    """Return DVC's entry of each of `READERS` as the last finished run read it; empty if there is none."""
    stages = _lock()
    entries = {
        name: entry
        for name, reader in READERS.items()
        for entry in stages.get(reader, {}).get("deps", [])
        if entry["path"] == paths[name]
    }
    return entries if len(entries) == len(READERS) else {}


def present_md5(paths: dict[str, str]) -> str:
    """Return DVC's md5 of the prepared images, which are up to date."""
    return str(next(entry["md5"] for entry in _lock()["prepare"]["outs"] if entry["path"] == paths["prepared"]))


def _lock() -> dict[str, Any]:
    lock = Path("dvc.lock")
    stages: dict[str, Any] = yaml.safe_load(lock.read_text())["stages"] if lock.exists() else {}
    return stages


@contextmanager
def brought_back(entries: dict[str, dict[str, Any]]) -> Iterator[Path]:
    """Bring versions from DVC's cache, or its remote, to a folder, by their names, while the block lasts.

    What is in neither is a StageFailedError.
    """
    with alone(Path.cwd()) as folder:
        for name, entry in entries.items():
            (folder / f"{name}.dvc").write_text(yaml.safe_dump({"outs": [entry | {"path": name}]}))
        try:
            output([*DVC, "checkout"], folder)
        except StageFailedError:
            output([*DVC, "pull"], folder)
        yield folder
