"""`python -m commands.rebuild [MODEL] [FOLDER]`: train a registered version again from its lineage in MLflow."""

import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click

from mlops.project import params
from mlops.project.errors import UserError, command_line
from mlops.project.identity import dvc_md5, file_digest, project_root
from mlops.project.prepared_data import MANIFEST
from mlops.project.result_files import TRAINING, load_json, snapshots
from mlops.promotion.naming import model_name
from mlops.provenance import record
from mlops.provenance.clone import clone, new_place, require_commit, run_stage
from mlops.tracking.runs import artifact_names, connect, fetch_artifacts
from mlops.tracking.versions import CHAMPION, WEIGHTS_TAG, find_version

DECISIVE = ("python", "platform", "cpu", "gpu", "torch", "numpy", "scipy", "pillow", "scikit-learn")
"""Parts of the environment that are named if they differ; other packages are counted."""
SHOWN = 10
"""Images that are named if they differ; more are counted."""
EXAMPLES = """
MODEL is a version, an alias or models:/NAME@ALIAS. FOLDER is new or empty and stays; without it, a temporary one is
deleted once the weights are equal.

\b
Examples:
  python -m commands.rebuild
  python -m commands.rebuild 3
  python -m commands.rebuild models:/gan-digits@previous-champion ../old
"""


@dataclass(frozen=True)
class Version:
    """A registered version: its tags, the folder with its lineage, and the stages of its `dvc.lock`."""

    title: str
    tags: dict[str, str]
    lineage: Path
    stages: dict[str, Any]


def rebuild(model: str = CHAMPION, folder: str | None = None) -> None:
    """Train a registered version (see `find_version`) again in a clone of its commit; compare inputs and weights.

    The folder is new or empty; None makes a temporary one, which is deleted once the weights are equal. It is a
    UserError if there is no such version or it cannot be rebuilt from here, if an input differs (then nothing is
    trained), if a stage fails, or if the weights differ.
    """
    root = project_root()
    with TemporaryDirectory() as downloads:
        version = _version(model, Path(downloads))
        commit = version.tags[record.COMMIT].removesuffix("-dirty")
        require_commit(commit, root)
        environment = _environment(version)
        place = new_place(folder)
        print(f"rebuild: {version.title}, commit {version.tags[record.COMMIT]}, in {place}", flush=True)
        try:
            project = clone(root, place, commit, version.lineage / record.PATCH)
            run_stage("prepare", project)
            compare_inputs(version, project)
            run_stage("train", project)
            sha256 = compare_weights(version, project, environment)
        except UserError as error:
            raise UserError(f"{error}\nthe clone is kept in {place}") from None
    if folder is None:
        shutil.rmtree(place)
    print(f"rebuild: {version.title} was trained again and has the same weights, sha256 {sha256}")


def _version(model: str, downloads: Path) -> Version:
    """Return a version, its lineage downloaded into a folder."""
    client, _ = connect()
    values = params.load()
    registered = find_version(client, model_name(values.register, values.data), model)
    title, run_id = f"{registered.name} version {registered.version}", str(registered.run_id)
    written = artifact_names(client, run_id, record.LINEAGE)
    if not {record.LOCK, record.PATCH, record.FILES} <= written or record.COMMIT not in registered.tags:
        raise UserError(
            f"MLflow has no lineage of {title} (run {run_id}): it was registered before there was one, or outside of "
            f"git and DVC; run `dvc repro --force --single-item register` where its outputs are, which adds it"
        )
    lineage = fetch_artifacts(client, run_id, record.LINEAGE, downloads)
    return Version(title, dict(registered.tags), lineage, record.load_lock(lineage / record.LOCK))


def _environment(version: Version) -> list[str]:
    """Return how this environment differs from a version's; warn of that, and of code that git did not track."""
    lines = (version.lineage / record.ENVIRONMENT).read_text(encoding="utf-8").splitlines()
    differ = record.differences(dict(line.split("==", 1) for line in lines), record.environment())
    shown = [f"{name}: {differ[name]}" for name in DECISIVE if name in differ]
    if len(differ) > len(shown):
        shown.append(f"other packages: {len(differ) - len(shown)} (the run has {record.LINEAGE}/{record.ENVIRONMENT})")
    if shown:
        print(f"warning: the environment differs, so the weights may: {'; '.join(shown)}", file=sys.stderr)
    if record.UNTRACKED in version.tags:
        print(f"warning: git did not track {version.tags[record.UNTRACKED]}; the clone lacks it", file=sys.stderr)
    return shown


def compare_inputs(version: Version, place: Path) -> None:
    """Raise a UserError if an input of the training is another in a project in which `prepare` has run.

    The message names parameters, code and data that differ, and what differs in that from which they were made.
    """
    folders = record.data_folders(version.stages)
    then = record.code_and_numbers(version.stages, record.upstream(version.stages))
    then.pop("data.path", None)  # it may differ for the same data
    now = record.code_and_numbers_at(place, then) | record.code_files(version.stages, place)
    now |= record.data_files({folder: dvc_md5(place / folder) for folder in folders}, place)
    differ = record.differences(load_json(version.lineage / record.FILES) | then, now)
    direct = {dep["path"] for dep in version.stages["train"]["deps"]}
    if not differ.keys() & (direct | record.code_and_numbers(version.stages, ["train"]).keys()):
        return
    lines = [f"  {name}: {both}" for name, both in differ.items()]
    prepared, manifest = next(iter(folders)), version.lineage / MANIFEST
    if prepared in differ and manifest.exists():
        images = record.changed_images(manifest, place / prepared / MANIFEST)
        more = f" and {len(images) - SHOWN} more" if len(images) > SHOWN else ""
        lines += [f"  images that differ: {', '.join(images[:SHOWN])}{more}"] if images else []
    raise UserError("\n".join([f"the inputs of {version.title} differ, so nothing was trained", *lines]))


def compare_weights(version: Version, place: Path, environment: list[str]) -> str:
    """Return the sha256 of the weights that a project has trained again; if it has none such, that is a UserError.

    They are one of the snapshots; older versions have one file. The message has the sums of the version and of the
    last snapshot, and as possible reasons the device and the lines on the environment.
    """
    outs = (place / out["path"] for out in version.stages["train"]["outs"])
    weights, training = sorted(outs, key=lambda path: (path / TRAINING).exists())
    made = [*snapshots(weights).values()] if weights.is_dir() else [weights]
    then, sums = version.tags[WEIGHTS_TAG], [file_digest(path) for path in made]
    if then in sums:
        return then
    now = sums[-1]
    device = {"device": version.tags["device"]}, {"device": load_json(training / TRAINING)["device"]}
    reasons = [*environment, *(f"{name}: {both}" for name, both in record.differences(*device).items())]
    same = "data, parameters, code and environment are the same; another processor, or a GPU, may round differently"
    lines = [f"  {line}" for line in reasons or [same]]
    raise UserError("\n".join([f"the weights of {version.title} differ: sha256 {then} then, {now} now", *lines]))


@click.command(epilog=EXAMPLES)
@click.argument("model", default=CHAMPION)
@click.argument("folder", required=False)
@command_line()
def main(model: str, folder: str | None) -> None:
    """Train a registered MODEL again, by default the champion, in a clone of its commit, and compare the weights."""
    rebuild(model, folder)


if __name__ == "__main__":
    main()
