"""The flow `gan-training`: the stages in DVC's order, one task run each, and their results in Prefect's UI."""

import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

import yaml
from prefect import State, flow
from prefect.artifacts import create_markdown_artifact
from prefect.runtime import flow_run
from prefect.states import Failed

from flows.environment import completed
from flows.failure import StageDiedError, StageFailedError
from flows.markdown import embedded
from flows.output import log_output
from flows.stage import stage_task

ROOT = Path(__file__).resolve().parent.parent
RETRIES = {"train": 2, "replicate": 2}
"""How often a stage that died is started again; it resumes from its last checkpoint."""


MOST_STARTS = 10
"""Of one run, so that one that crashes each time, as for want of memory, comes to an end."""


def _run_name() -> str:
    """Return what is trained, from `params.yaml`; a file that is not valid is refused by the first stage."""
    try:
        values = yaml.safe_load((ROOT / "params.yaml").read_text())
        data, network, train = values["data"], values["network"], values["train"]
        name = Path(data["path"] or "").name if data["name"] == "folder" else data["name"]
        return f"{name} {network['family']} {train['loss']} {train['steps']:,} steps, seed {train['seed']}"
    except (OSError, ValueError, KeyError, TypeError, yaml.YAMLError):
        return "gan-training"


@flow(name="gan-training", flow_run_name=_run_name, log_prints=True)
def gan_training() -> State[None] | None:
    """Bring data, extractor, training, evaluation and registration up to date; only what changed runs again."""
    if (flow_run.run_count or 1) > MOST_STARTS:
        return Failed(message=f"crashed {MOST_STARTS} times; read the log of this run and the output of its worker")
    os.chdir(ROOT)
    pipeline = yaml.safe_load(Path("dvc.yaml").read_text())
    *stages, last = pipeline["stages"]
    name = ""
    try:
        for name in stages:
            stage_task(name, retries=RETRIES.get(name, 0))(return_state=True).result()
            if name == "prepare":
                advise()
        # Always: MLflow may lack what DVC has as up to date; registering a second time changes nothing.
        stage_task(last, force=True)(return_state=True).result()
    except StageFailedError as error:  # the state says all; an exception would add a traceback of the flow's own code
        if name == "train" and not isinstance(error, StageDiedError):
            create_markdown_artifact(key="gan-doctor", markdown=f"**{error}**", description="training failed")
        return Failed(message=str(error))
    publish(pipeline["vars"][0]["paths"])
    return None


def advise() -> None:
    """Log what the data are and what a training takes, if one is to come; if that fails, the run goes on."""
    columns = str(shutil.get_terminal_size().columns)
    ended = completed(sys.executable, "-m", "commands.advise", "--before-training", COLUMNS=columns)
    if ended.returncode == 0:
        log_output(ended.stdout.splitlines(), "advise")


def publish(paths: dict[str, str]) -> None:
    """Leave what was decided in Prefect's UI, with pictures, scores and a link to the MLflow run.

    It is one artifact, for the UI lists those of a run in the order of their random ids.
    """
    scores, place = _load(Path(paths["evaluation"]) / "scores.json"), _load(Path(paths["registration"]))
    doctor = _load(Path(paths["diagnosis"]) / "diagnosis.json")
    version = f"{place['model']} version {place['version']}"
    table = [_row(name, score) for name, score in sorted(scores.items()) if isinstance(score, dict) and "mean" in score]
    table.sort(key=lambda row: not row.startswith("| fid"))
    parts = [
        f"# {place['decision']}: {version}",
        place["reason"],
        f"**The doctor:** {doctor['sentence']}",
        f"[The run in MLflow]({_address(place)}), which `make ui` serves, has samples of every step, and its version's "
        "page the commands that generate, promote and roll back.",
        embedded(Path(paths["evaluation"]) / "comparison.png", "generated beside real images"),
        "\n".join(["| score | generated | 95 % | real |", "|---|---|---|---|", *table]),
        embedded(Path(paths["diagnosis"]) / "instruments.png", "readings through training"),
    ]
    create_markdown_artifact(
        key="gan-decision",
        markdown="\n\n".join(parts),
        description=f"{place['decision']}: {version}; {doctor['verdict']}",
    )


def _row(name: str, score: dict[str, Any]) -> str:
    numbers = {key: f"{score[key]:.4g}" for key in ("mean", "low", "high", "real") if key in score}
    interval = f"[{numbers['low']}, {numbers['high']}]" if "low" in numbers else ""
    return f"| {name} | {numbers['mean']} | {interval} | {numbers.get('real', '')} |"


def _address(place: dict[str, Any]) -> str:
    address = os.environ.get("MLFLOW_TRACKING_URI", "")
    server = address if address.startswith("http") else "http://127.0.0.1:5000"
    # Without the view MLflow opens its menu for language models, which has no model registry.
    return f"{server}/#/experiments/{place['experiment_id']}/runs/{place['run_id']}?workflowType=machine_learning"


def _load(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(path.read_text())
    return content
