"""The flow `gan-retrain`: trains again if the images have a new version, and tells why and what came of it."""

import json
import os
import sys
from pathlib import Path
from typing import Any

import yaml
from prefect import State, flow, get_run_logger, task
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import NO_CACHE
from prefect.states import Completed, Failed

from flows.experiment.workspace import one_at_a_time, output
from flows.failure import StageFailedError
from flows.retraining.images import brought_back, former, present_md5, update
from flows.retraining.report import report
from flows.stage import run
from flows.training import ROOT, check_starts, reproduce

NOTHING_NEW = "NothingNew"
"""The name of the state of a run that has done nothing."""


class NothingNewError(Exception):
    """The images are those of the last training."""


@flow(name="gan-retrain", log_prints=True)
def gan_retrain() -> State[None] | None:
    """Train again if the images have a new version, and let the gate decide; if they have not, do nothing.

    New is what differs from the images of the last training: files at `data.path` that were added, removed or changed,
    or what `dvc update` brings if they were imported from a bucket, a web server or another repository. It works in the
    project's folder, as `make run` does.

    Returns:
        What was decided, that nothing is new, or why it failed.
    """
    story = {"why": "no training is finished yet"}
    try:
        check_starts()
        os.chdir(ROOT)
        paths = yaml.safe_load(Path("dvc.yaml").read_text())["vars"][0]["paths"]
        with one_at_a_time(ROOT):
            if imported := update():
                get_run_logger().info(f"{imported} has a new version")
            return reproduce(
                before={"extractor": lambda: _look(paths, imported, story), "register": lambda: _rescore(story)},
                told=lambda place: report(story, place),
            )
    except NothingNewError as nothing:
        return Completed(name=NOTHING_NEW, message=str(nothing))
    except StageFailedError as error:  # the state says all; an exception would add a traceback of our own code
        return Failed(message=str(error))


def _look(paths: dict[str, str], imported: str, story: dict[str, str]) -> None:
    """Compare the prepared images with those of the last training, and show what changed; a NothingNewError if none."""
    before = former(paths)
    if not before:
        return
    if before["prepared"]["md5"] == present_md5(paths):
        raise NothingNewError("the images are those of the last training: nothing was done")
    story["why"] = f"{imported} has a new version" if imported else "the images have a new version"
    story |= compare(before, paths)


@task(name="compare", task_run_name="compare", cache_policy=NO_CACHE)
def compare(before: dict[str, Any], paths: dict[str, str]) -> dict[str, str]:
    """Show in Prefect's UI what changed in the images, and the drift; what cannot be compared stops no training."""
    compared: dict[str, str]
    try:
        with brought_back(before) as folder:
            places = (folder / "prepared", folder / "extractor", paths["prepared"])
            compared = json.loads(output([sys.executable, "-m", "mlops.drift", *map(str, places)], ROOT))
    except StageFailedError as error:
        compared = {"changes": "what changed is not known", "table": "", "drift": f"not measured, for {error}"}
    get_run_logger().info(f"{compared['changes']}; drift: {compared['drift']}")
    parts = [f"# {compared['changes']}", f"**Drift:** {compared['drift']}.", compared["table"]]
    create_markdown_artifact(key="gan-images-changed", markdown="\n\n".join(parts), description=compared["changes"])
    return compared


def _rescore(story: dict[str, str]) -> None:
    """Score the champion by the new images, for the gate compares scores of one passport alone."""
    try:
        story["champion"] = run([sys.executable, "-m", "commands.rescore"], "champion")[-1]
    except StageFailedError as error:
        story["champion"] = str(error)
