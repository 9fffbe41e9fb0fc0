"""`python -m commands.rebuild [MODEL] [FOLDER]`: make a registered version's weights again, from what MLflow says of it.

MODEL is a version or an alias of `register.model_name`, or `models:/NAME@ALIAS`; without it, `champion`. FOLDER is new
and stays; without it, a temporary folder is deleted once the weights are equal.
"""

import re
import shutil
import signal
import sys
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from mlops.project import params
from mlops.project.errors import UserError
from mlops.project.identity import dvc_md5, file_digest, project_root
from mlops.project.prepared_data import MANIFEST
from mlops.project.result_files import TRAINING, load_json
from mlops.provenance import record as origin
from mlops.provenance.clone import clone, new_place, require_commit, run_stage
from mlops.tracking import versions as registry
from mlops.tracking.runs import connect

DECISIVE = ("python", "platform", "cpu", "gpu", "torch", "numpy", "scipy", "pillow", "scikit-learn")
"""Parts of the environment that are named where they differ; other packages are counted."""
SHOWN = 10
"""Images that are named where they differ; more are counted."""


@dataclass(frozen=True)
class Version:
    """A registered version: its tags, the folder with its lineage, and the stages of its `dvc.lock`."""

    title: str
    tags: dict[str, str]
    lineage: Path
    stages: dict[str, Any]


def rebuild(model: str = registry.CHAMPION, folder: str | None = None) -> None:
    """Train a registered version again in a clone of its commit, and compare inputs and weights.

    Args:
        model: version, alias or `models:/` URI.
        folder: new or empty; None makes a temporary one.

    Raises:
        UserError: there is no such version or it cannot be rebuilt from here, an input differs (then nothing is
            trained), a stage fails, or the weights differ.
    """
    root = project_root()
    with TemporaryDirectory() as papers:
        version = _find(model, Path(papers))
        commit = version.tags[origin.COMMIT].removesuffix("-dirty")
        require_commit(commit, root)
        environment = _environment(version)
        place = new_place(folder)
        print(f"rebuild: {version.title}, commit {version.tags[origin.COMMIT]}, in {place}", flush=True)
        try:
            clone(root, place, commit, version.lineage / origin.PATCH)
            run_stage("prepare", place)
            compare_inputs(version, place)
            run_stage("train", place)
            sha256 = compare_weights(version, place, environment)
        except UserError as error:
            raise UserError(f"{error}\nthe clone is kept in {place}") from None
    if folder is None:
        shutil.rmtree(place)
    print(f"rebuild: {version.title} was trained again and has the same weights, sha256 {sha256}")


def _find(model: str, papers: Path) -> Version:
    """Return a version, its lineage downloaded into a folder."""
    said = re.fullmatch(r"(?:models:/(?P<name>[^/@]+)[/@])?(?P<which>[\w-]+)", model)
    if said is None:
        raise UserError(f"{model} names no version; give a number, an alias such as champion, or models:/NAME@ALIAS")
    client, _ = connect()
    name = said["name"] or params.load().register.model_name
    found = registry.named_version(client, name, said["which"])
    title, run_id = f"{name} version {found.version}", str(found.run_id)
    artifacts = {Path(file.path).name for file in client.list_artifacts(run_id, origin.LINEAGE)}
    if not {origin.LOCK, origin.FILES} <= artifacts or origin.COMMIT not in found.tags:
        raise UserError(
            f"MLflow has no lineage of {title} (run {run_id}): it was registered before there was one, or outside of "
            f"git and DVC; `dvc repro --force --single-item register` adds it where the outputs are"
        )
    lineage = Path(client.download_artifacts(run_id, origin.LINEAGE, str(papers)))
    return Version(title, dict(found.tags), lineage, origin.load_lock(lineage / origin.LOCK))


def _environment(version: Version) -> list[str]:
    """Return what differs between the environment of a version and this one; warn of it, and of code git never had."""
    lines = (version.lineage / origin.ENVIRONMENT).read_text(encoding="utf-8").splitlines()
    differ = origin.differences(dict(line.split("==", 1) for line in lines), origin.environment())
    said = [f"{name}: {differ[name]}" for name in DECISIVE if name in differ]
    if len(differ) > len(said):
        said.append(f"other packages: {len(differ) - len(said)} (the run has {origin.LINEAGE}/{origin.ENVIRONMENT})")
    if said:
        print(f"warning: the environment differs, so the weights may: {'; '.join(said)}", file=sys.stderr)
    if origin.UNTRACKED in version.tags:
        print(f"warning: git did not track {version.tags[origin.UNTRACKED]}; the clone lacks it", file=sys.stderr)
    return said


def compare_inputs(version: Version, place: Path) -> None:
    """Raise a UserError where an input of the training differs, and name with it what the data were made from.

    Args:
        version: which training.
        place: a project in which `prepare` has run.

    Raises:
        UserError: parameters, code or prepared data differ.
    """
    folders = origin.data_folders(version.stages)
    then = origin.code_and_numbers(version.stages, origin.upstream(version.stages))
    then = {name: said for name, said in then.items() if name != "data.path"}  # where, not what
    now = origin.code_and_numbers_at(place, then)
    now |= origin.data_files({folder: dvc_md5(place / folder) for folder in folders}, place)
    differ = origin.differences(load_json(version.lineage / origin.FILES) | then, now)
    read = {dep["path"] for dep in version.stages["train"]["deps"]}
    if not differ.keys() & (read | origin.code_and_numbers(version.stages, ["train"]).keys()):
        return
    said = [f"  {name}: {both}" for name, both in differ.items()]
    prepared, manifest = next(iter(folders)), version.lineage / MANIFEST
    if prepared in differ and manifest.exists():
        images = origin.changed_images(manifest, place / prepared / MANIFEST)
        more = f" and {len(images) - SHOWN} more" if len(images) > SHOWN else ""
        said += [f"  images that differ: {', '.join(images[:SHOWN])}{more}"] if images else []
    raise UserError("\n".join([f"the inputs of {version.title} differ, so nothing was trained", *said]))


def compare_weights(version: Version, place: Path, environment: list[str]) -> str:
    """Return the sha256 of the weights where they are those of the version.

    Args:
        version: which training.
        place: a project in which `train` has run.
        environment: what is known to differ.

    Returns:
        The sha256.

    Raises:
        UserError: the weights differ; the message has both sums, and what may be why.
    """
    outs = {out["path"]: out["md5"].endswith(".dir") for out in version.stages["train"]["outs"]}
    weights, training = sorted(outs, key=lambda path: outs[path])
    then, now = version.tags[registry.WEIGHTS_TAG], file_digest(place / weights)
    if then == now:
        return now
    device = {"device": version.tags["device"]}, {"device": load_json(place / training / TRAINING)["device"]}
    said = [*environment, *(f"{name}: {both}" for name, both in origin.differences(*device).items())]
    same = "data, parameters, code and environment are the same; another processor, or a GPU, may round differently"
    reasons = [f"  {line}" for line in said or [same]]
    raise UserError("\n".join([f"the weights of {version.title} differ: sha256 {then} then, {now} now", *reasons]))


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that whoever is told to end also ends the stage
    if len(sys.argv) > 3:
        sys.exit("usage: python -m commands.rebuild [MODEL] [FOLDER]")
    try:
        rebuild(*sys.argv[1:])
    except UserError as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
