"""`python -m mlops.tracking.sweeps.follow PREPARED EXTRACTOR`: score the snapshots of a training as it writes them.

MLflow gets `training/validation_kid` of each, as `register` writes it of those that `choose` has scored. The training,
that of the flow run in the environment, does not depend on it.
"""

import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.exceptions import MlflowException

from gan_core.config import FEWEST_SCORED
from gan_core.runtime.device import configure_torch
from mlops.project.errors import command_line
from mlops.project.params import load
from mlops.project.result_files import snapshots
from mlops.runs.workspace import Workspace
from mlops.safety.ending import end_in_time
from mlops.scoring.choice import SnapshotScorer
from mlops.tracking.run_writer import CURVES
from mlops.tracking.runs import FLOW_TAG, KEY_TAG, connect
from mlops.tracking.store import sqlite_file, tracking_uri

POLL = 1.0
"""Seconds between two looks at the folder of snapshots."""
FIRST_POLL = 3.0
"""Seconds between two questions to MLflow whether the training has begun."""


def wait_for_store() -> None:
    """Wait until a store that is a file has been begun, by the training: of two processes that make one, one fails."""
    path = sqlite_file(tracking_uri())
    while path is not None and not (path.exists() and path.stat().st_size):
        time.sleep(POLL)


def training_of(client: MlflowClient, experiment: str, flow_run: str) -> Run:
    """Wait until a flow run trains; return the run of its training."""
    while not (runs := client.search_runs([experiment], f"tags.`{FLOW_TAG}` = '{flow_run}'", max_results=1)):
        time.sleep(FIRST_POLL)
    return runs[0]


def written(folder: Path, known: set[int]) -> Iterator[tuple[int, Path]]:
    """Yield step and path of each snapshot that is not known, as long as the folder is there; it is renamed into it."""
    while folder.exists():
        for step, path in snapshots(folder).items():
            if step not in known:
                known.add(step)
                yield step, path
        time.sleep(POLL)


def follow(prepared: Path, extractor: Path, flow_run: str) -> None:
    """Log the score of each snapshot until the training ends; if there are too few real images, of none."""
    values = load()
    configure_torch(values.compute)
    wait_for_store()
    client, experiment = connect()
    run = training_of(client, experiment, flow_run)
    scorer = SnapshotScorer(prepared, extractor, values.compute, values.choose)
    if len(scorer.real) < FEWEST_SCORED:
        return
    metric = f"{CURVES}validation_{scorer.metric}"
    known = {point.step for point in client.get_metric_history(run.info.run_id, metric)}
    for step, path in written(Workspace(run.data.tags[KEY_TAG]).snapshots, known):
        try:
            client.log_metric(run.info.run_id, metric, scorer.kid(path).value, step=step)
        except OSError:  # the training has ended, and its snapshots are elsewhere
            return
        except MlflowException as error:
            print(f"warning: step {step} has no score: {error}", file=sys.stderr)


if __name__ == "__main__":
    with command_line():
        end_in_time()
        follow(Path(sys.argv[1]), Path(sys.argv[2]), os.environ["EQUILIBRIUM_FLOW_RUN_ID"])
