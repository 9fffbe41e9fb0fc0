"""Files of a person in the places that runs replace: paths that parameters name, and strange files in outputs."""

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mlops.project.errors import UserError
from mlops.project.identity import file_digest, git, located, project_root
from mlops.safety.pipelines import DENSITIES, MAIN, PARAMS, cache_folder, recorded, stage_outputs
from mlops.safety.written_files import note_written, noted_files, stamps, unknown_files

SOURCES = (("data", "path"), ("extractor", "weights"))
"""Sections and keys of `params.yaml` that name files of a person; a relative path starts at the project's root."""
OWN = (".checkpoints", ".mlflow", ".prefect", ".workspaces", "generated", ".dvc", ".git", ".venv")
"""Folders of the project, beside outputs, in which commands write and delete."""
HALF_COPIED = re.compile(r"\.[\w-]{22}\.tmp")
"""What DVC calls a file in an output until it is whole."""
SHOWN = 3
"""Files that an error names."""


def check_sources(values: Mapping[str, Any]) -> None:
    """Raise a UserError if a parameter names a place that a run replaces, a place in one, or a folder around one.

    `values` is the content of `params.yaml`. Paths are compared as they stand and with all links followed.
    """
    for section, key in SOURCES:
        content = values.get(section)
        path = content.get(key) if isinstance(content, dict) else None
        if isinstance(path, str):
            place = located(path, f"{PARAMS}: {section}.{key}")
            _check(f"{PARAMS}: {section}.{key}: {path}", place, around=True)


def check_target(folder: Path) -> None:
    """Raise a UserError if a new folder of a person would be in a place that a run replaces."""
    _check(str(folder), Path.cwd() / folder, around=False)


def _check(what: str, path: Path, *, around: bool) -> None:
    root = project_root()
    for place in (*_outputs(), *map(Path, OWN)):
        if not around and place.name == "generated":
            continue  # where people let images be generated
        for inner, outer in _both(path, root / place):
            if inner.is_relative_to(outer):
                raise UserError(
                    f"{what} lies in {place}, which the project itself writes and deletes; "
                    "move your files to a folder of their own, and name that one"
                )
            if around and outer.is_relative_to(inner):
                raise UserError(
                    f"{what} contains {place}, which the project itself writes and deletes; name a folder with your "
                    "files alone"
                )


def _both(path: Path, place: Path) -> Iterator[tuple[Path, Path]]:
    """Yield two paths as they stand and with all links followed."""
    for left in {Path(os.path.normpath(path)), path.resolve()}:
        for right in {Path(os.path.normpath(place)), place.resolve()}:
            yield left, right


def check_outputs(pipeline: Path) -> None:
    """Raise a UserError if outputs of a pipeline hold files that it did not write, which DVC would delete.

    A file is the pipeline's if it is as a stage has written it, if the lock records its bytes, or if its bytes are in
    DVC's cache and its name is one of the lock, as after a `git checkout`, or of a stage, as after a kill between DVC's
    cache and its lock. What is as the last commit has it comes back from there. Digests of code, which every run makes
    anew, and what DVC has half copied, are known by their names: after a kill neither note nor cache has them.
    """
    stages = stage_outputs(pipeline)
    outputs = [path for paths in stages.values() for path in paths]
    digests = {folder / f"{name}.json" for folder in stages.get("code", []) for name in stages}
    _check_links(outputs)
    unknown = {output: unknown_files(output) for output in outputs}
    if not any(unknown.values()):
        return
    known, cache, committed = recorded(pipeline), cache_folder(), _committed(outputs)
    named = set(known).union(*map(noted_files, outputs))

    def is_ours(file: Path) -> bool:
        if file in digests or file in committed or HALF_COPIED.fullmatch(file.name):
            return True
        if file not in named or not file.is_file():
            return False
        md5 = file_digest(file, "md5")
        return md5 == known.get(file) or (cache / md5[:2] / md5[2:]).is_file()

    strange = [file for files in unknown.values() for file in files if not is_ours(file)]
    if strange:
        raise UserError(_complaint(strange, known))
    for output, files in unknown.items():
        if files:
            note_written(output)


def _committed(outputs: list[Path]) -> set[Path]:
    """Return the files of outputs that are as git's last commit has them."""
    places = [str(output) for output in outputs]
    try:
        tracked = git("ls-files", "-z", "--", *places)
        changed = git("diff", "--name-only", "--relative", "-z", "HEAD", "--", *places)
    except UserError:
        return set()
    return {Path(os.fsdecode(name)) for name in {*tracked.split(b"\0")} - {*changed.split(b"\0")}}


def _check_links(outputs: list[Path]) -> None:
    """Raise a UserError if an output is below a link, or a link into a cache of DVC that is no longer there."""
    for output in outputs:
        for path in (output, *output.parents):
            if path.is_symlink() and path.is_dir():
                raise UserError(
                    f"{path} is a link, and DVC writes through none: put a folder in its place, with your own files "
                    "elsewhere; to use a larger disk, move DVC's cache there: dvc cache dir --local FOLDER"
                )
        for name in stamps(output):
            if not (output / name).exists():
                raise UserError(
                    f"{output / name} is a link into a cache that is not there, as after the project was moved; bring "
                    "it back: dvc checkout --relink dvc.yaml"
                )


def _complaint(strange: list[Path], known: Mapping[Path, str]) -> str:
    changed = [file for file in strange if file in known]
    shown = ", ".join(map(str, (changed or strange)[:SHOWN]))
    more = f" and {len(changed or strange) - SHOWN:,} more" if len(changed or strange) > SHOWN else ""
    if changed:
        return (
            f"changed since the pipeline wrote it: {shown}{more}; the next run would delete the change: move it "
            f"elsewhere to keep it, and bring back what was written: dvc checkout --force {changed[0]}"
        )
    return (
        f"the pipeline did not write {shown}{more}, and its next run would delete that with the rest of the output; "
        "move it to a folder of your own"
    )


def _outputs() -> list[Path]:
    return [path for pipeline in (MAIN, DENSITIES) for paths in stage_outputs(pipeline).values() for path in paths]
