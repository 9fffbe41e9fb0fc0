"""The flow `gan-training`: the stages in DVC's order, one task run each, and their results in Prefect's UI."""

import os
import shutil
import sys
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import yaml
from prefect import State, flow, get_run_logger
from prefect.artifacts import create_markdown_artifact
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import (
    FlowFilter,
    FlowFilterName,
    FlowRunFilter,
    FlowRunFilterDeploymentId,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import StateType
from prefect.runtime import flow_run
from prefect.settings import PREFECT_API_URL
from prefect.states import Completed, Crashed, Failed

from flows.environment import completed
from flows.experiment.dvc import Dvc, outdated
from flows.experiment.form import NONE, PARAMS, Overrides, Preset
from flows.experiment.record import experiment_name, pull, push, save
from flows.experiment.status import CHECKED, unchanged
from flows.experiment.workspace import given_remote, one_at_a_time, uncommitted, workspace
from flows.failure import StageDiedError, StageFailedError
from flows.output import log_output
from flows.results import publish, publish_scores, version_of
from flows.stage import following, stage_task

ROOT = Path(__file__).resolve().parent.parent
RETRIES = {"train": 2, "replicate": 2}
"""How often a stage that died is started again; it resumes from its last checkpoint."""
MOST_STARTS = 10
"""Of one run, so that one that crashes each time, as for want of memory, comes to an end."""
PROMOTED = "Promoted"
"""The name of the state of a run whose version became champion."""
ALONE: Mapping[str, Callable[[], None]] = {}


def _run_name() -> str:
    """Return what is trained: the name of an experiment if parameters are given, else from `params.yaml`."""
    asked = flow_run.parameters
    if given_remote() or not _is_plain(**asked):
        return experiment_name(flow_run.id or "", **asked)
    try:
        values = yaml.safe_load((ROOT / "params.yaml").read_text())
        data, network, train = values["data"], values["network"], values["train"]
        name = Path(data["path"] or "").name if data["name"] == "folder" else data["name"]
        return f"{name} {network['family']} {train['loss']} {train['steps']:,} steps, seed {train['seed']}"
    except (OSError, ValueError, KeyError, TypeError, yaml.YAMLError):  # the first stage refuses what is not valid
        return "gan-training"


def _is_plain(
    preset: str = PARAMS,
    data: str = "",
    overrides: Mapping[str, Any] = NONE,
    commit: str = "",
    to_registry: bool = True,
) -> bool:
    """Return whether nothing is asked for: the page sends each section, null if it stays as it is."""
    kept = all(content in (None, {}) for content in overrides.values())
    return preset == PARAMS and not data and not commit and to_registry and kept


@flow(name="gan-training", flow_run_name=_run_name, log_prints=True)
def gan_training(
    preset: Preset = PARAMS, data: str = "", overrides: Overrides = NONE, commit: str = "", to_registry: bool = True
) -> State[None] | None:
    """Bring data, extractor, training, evaluation and registration up to date; only what changed runs again.

    Without parameters it works in the project's folder, on `params.yaml` as it is. With any it works in a workspace of
    its own and leaves the folder as it is; what it makes is an experiment of DVC with the name of the flow run.

    Args:
        preset: what the values start from, params.yaml of the commit or a file of presets/.
        data: digits, mnist, fashion_mnist or cifar10, or the path of a folder, zip or tar; empty, the preset's.
        overrides: single values on top of these; what is left out or empty stays as it is.
        commit: of code and params.yaml; empty, the last one.
        to_registry: the model becomes a version and the gate decides on it; if not, the run ends with its scores.

    Returns:
        That its version was promoted, None, or why it failed.
    """
    try:
        check_starts()
        os.chdir(ROOT)
        if _is_plain(preset, data, overrides, commit, to_registry) and not given_remote():
            with one_at_a_time(ROOT):
                if not PREFECT_API_URL.value():
                    _end_earlier_runs()
                return reproduce()
        return _experiment(flow_run.name or "", commit, to_registry, preset, data, overrides)
    except StageFailedError as error:  # the state says all; an exception would add a traceback of the flow's own code
        return Failed(message=str(error))


def check_starts() -> None:
    """End a run that crashes whenever it is started again, with a StageFailedError."""
    if (flow_run.run_count or 1) > MOST_STARTS:
        raise StageFailedError(f"crashed {MOST_STARTS} times; read the log of this run and the output of its worker")


def _end_earlier_runs() -> None:
    """Mark runs of this folder as crashed that ended together with Prefect's temporary server, which shows them on."""
    running = FlowRunFilter(
        deployment_id=FlowRunFilterDeploymentId(is_null_=True),
        state=FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.RUNNING])),
    )
    with get_client(sync_client=True) as client:
        ours = FlowFilter(name=FlowFilterName(any_=["gan-training"]))
        for run in client.read_flow_runs(flow_filter=ours, flow_run_filter=running):
            if str(run.id) != flow_run.id:
                client.set_flow_run_state(run.id, Crashed(message="stopped or killed; a later run went on"), force=True)


def _experiment(name: str, commit: str, to_registry: bool, *asked: Any) -> State[None] | None:
    """Run the pipeline in a workspace and keep it as an experiment; a workspace in which something failed stays."""
    log = get_run_logger()
    with workspace(ROOT, name, commit) as work:
        try:
            work.write_parameters(*asked)
        except StageFailedError:
            work.remove()
            raise
        if not commit and (changed := uncommitted(ROOT)):
            log.warning(f"not in this run, which starts from commit {work.commit[:7]}: changes of {', '.join(changed)}")
        try:
            with work.entered(name):
                pull(work)
                ended = reproduce(to_registry=to_registry)
                save(work, name, ["dvc.yaml"] if to_registry else stage_names()[:-1])
                push(work, name)
        except StageFailedError as error:
            kept = f"its workspace stays: {work.folder}; `rm -r {work.place}` or `make free` deletes it"
            raise type(error)(f"{error}; {kept}") from None
        work.remove()
    return ended


def stage_names() -> list[str]:
    """Return the names of all stages in the working directory."""
    return [*yaml.safe_load(Path("dvc.yaml").read_text())["stages"]]


def reproduce(
    before: Mapping[str, Callable[[], None]] = ALONE,
    told: Callable[[dict[str, Any]], None] | None = None,
    *,
    to_registry: bool = True,
) -> State[None] | None:
    """Run what is not up to date of the pipeline in the working directory, and leave its results in Prefect's UI.

    Args:
        before: what else is to be done before a stage has its turn, by its name.
        told: gets what `register` wrote, if something ran.
        to_registry: if not, it ends before the stage `register`, and the training's snapshots are scored meanwhile.

    Returns:
        The state of a run whose version was promoted; None of others.
    """
    pipeline = yaml.safe_load(Path("dvc.yaml").read_text())
    first, *stages, last = pipeline["stages"]
    stages, paths = [*stages, *([last] if to_registry else [])], pipeline["vars"][0]["paths"]
    dvc, todo = CHECKED.pop() if CHECKED else (Dvc(), None)
    made, name = set[str](), first
    try:
        if todo is None:
            stage_task(dvc, first)(return_state=True).result()
            todo = outdated(dvc)
        else:
            unchanged(first)
        for name in stages:
            entry = pipeline["stages"][name]
            before.get(name, lambda: None)()
            if name in todo or made & {*entry["deps"]} or (name == last and is_remote()):
                _run(dvc, name, paths, to_registry=to_registry)
                made |= {out if isinstance(out, str) else next(iter(out)) for out in entry["outs"]}
            else:
                unchanged(name)
    except StageFailedError as error:
        if name == "train" and not isinstance(error, StageDiedError):
            create_markdown_artifact(key="gan-doctor", markdown=f"**{error}**", description="training failed")
        raise
    finally:
        dvc.close()
    if made or not to_registry:  # else all of it is in an earlier run
        publish_scores(Path(paths["evaluation"]))
    if not made or not to_registry:
        return None
    place = publish(paths)
    if told is not None:
        told(place)
    decided = "${paths.evaluation}" in made and place["decision"] == "promoted"
    return Completed(name=PROMOTED, message=f"{version_of(place)}: {place['reason']}") if decided else None


def _run(dvc: Dvc, name: str, paths: Mapping[str, str], *, to_registry: bool) -> None:
    """Run a stage: a training is announced, or, if it is a trial, followed by scores of its snapshots."""
    trial = name == "train" and not to_registry
    if name == "train" and not trial:
        advise()
    with following(paths["prepared"], paths["extractor"]) if trial else nullcontext():
        stage_task(dvc, name, retries=RETRIES.get(name, 0))(return_state=True).result()


def is_remote() -> bool:
    """Return whether runs are in an MLflow that the stage `code` does not ask whether it lacks what DVC has."""
    address = os.environ.get("MLFLOW_REGISTRY_URI") or os.environ.get("MLFLOW_TRACKING_URI") or "sqlite:"
    return not address.startswith("sqlite:")


def advise() -> None:
    """Log what the data are and what a training takes, if one is to come; if that fails, the run goes on."""
    columns = str(shutil.get_terminal_size().columns)
    ended = completed(sys.executable, "-m", "commands.advise", "--before-training", COLUMNS=columns)
    if ended.returncode == 0:
        log_output(ended.stdout.splitlines(), "advise")
