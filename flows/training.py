"""The flow `gan-training`: the stages in DVC's order, one task run each, and their results in Prefect's UI."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml
from prefect import State, flow
from prefect.artifacts import create_link_artifact, create_markdown_artifact, create_table_artifact
from prefect.states import Failed

from flows.environment import of_children
from flows.failure import StageDiedError, StageFailedError
from flows.markdown import embedded
from flows.output import log_output
from flows.stage import stage_task

ROOT = Path(__file__).resolve().parent.parent
RETRIES = {"train": 2, "replicate": 2}
"""How often a stage that died is started again; it resumes from its last checkpoint."""


@flow(name="gan-training", log_prints=True)
def gan_training() -> State[None] | None:
    """Bring data, extractor, training, evaluation and registration up to date; only what changed runs again."""
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
    command = [sys.executable, "-m", "commands.advise", "--before-training"]
    variables = of_children() | {"COLUMNS": str(shutil.get_terminal_size().columns)}
    ended = subprocess.run(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        env=variables,
        check=False,
    )
    if ended.returncode == 0:
        log_output(ended.stdout.splitlines(), "advise")


def publish(paths: dict[str, str]) -> None:
    """Leave in Prefect's UI a table of scores, the doctor's verdict, a link to the MLflow run and the sample grid."""
    scores = _load(Path(paths["evaluation"]) / "scores.json")
    place = _load(Path(paths["registration"]))
    rows = [_row(name, score) for name, score in scores.items() if isinstance(score, dict)]
    create_table_artifact(key="gan-scores", table=rows, description=f"{place['model']} version {place['version']}")
    address = os.environ.get("MLFLOW_TRACKING_URI", "")
    server = address if address.startswith("http") else "http://127.0.0.1:5000"
    # Without the view MLflow opens its menu for language models, which has no model registry.
    link = f"{server}/#/experiments/{place['experiment_id']}/runs/{place['run_id']}?workflowType=machine_learning"
    doctor = _load(Path(paths["diagnosis"]) / "diagnosis.json")
    readings = embedded(Path(paths["diagnosis"]) / "instruments.png", "readings through training")
    create_markdown_artifact(
        key="gan-doctor", markdown=f"**{doctor['sentence']}**\n\n{readings}", description=doctor["verdict"]
    )
    create_link_artifact(
        key="gan-mlflow-run", link=link, link_text="the run in MLflow", description="`make ui` serves it"
    )
    create_markdown_artifact(
        key="gan-samples",
        markdown=embedded(Path(paths["evaluation"]) / "comparison.png", "generated beside real images"),
        description="generated beside real test images",
    )


def _row(name: str, score: dict[str, Any]) -> dict[str, str]:
    """Return a row of the table of scores; all rows have the same columns."""
    columns = ("mean", "low", "high", "real", "noise", "to_real", "to_noise")
    seeds = score.get("seeds")
    shown = {column: f"{score[column]:.4g}" if column in score else "" for column in columns}
    return {"score": name} | shown | {"over seeds": f"{seeds['low']:.4g} to {seeds['high']:.4g}" if seeds else ""}


def _load(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(path.read_text())
    return content
