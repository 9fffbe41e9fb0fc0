"""`python -m mlops.tracking.sweeps.record`: a sweep in MLflow; a question and an answer are a line of JSON each.

The sweep is a run; its trials are the runs of their trainings, and become its children by a tag. A trial whose training
DVC took from its cache has none, and gets one.
"""

import json
import sys
from pathlib import Path
from typing import Any

from mlflow.entities import Run
from mlflow.exceptions import MlflowException

from mlops.project.errors import UserError, command_line
from mlops.tracking.run_writer import CURVES
from mlops.tracking.runs import FLOW_TAG, connect

PARENT = "mlflow.parentRunId"
SWEEP_TAG, STATE_TAG, TRIAL_TAG = "sweep", "sweep.state", "sweep.trial"
CURVE = f"{CURVES}validation_kid"
"""How the metric begins that is an intermediate score."""
Answer = dict[str, Any]


class SweepRun:
    """The run of a sweep, which is found again by the sweep's id."""

    def __init__(self, name: str, sweep: str, params: dict[str, str]) -> None:
        self.client, self.experiment = connect()
        runs = self._search(SWEEP_TAG, sweep)
        made = runs[0] if runs else self.client.create_run(self.experiment, run_name=name, tags={SWEEP_TAG: sweep})
        self.id: str = made.info.run_id
        for param, value in params.items():
            if param not in made.data.params:
                self.client.log_param(self.id, param, value)
        self.client.update_run(self.id, status="RUNNING")

    def _search(self, tag: str, value: str) -> list[Run]:
        return list(self.client.search_runs([self.experiment], f"tags.`{tag}` = '{value}'", max_results=1))

    def trial(self, flow_run: str, number: int, params: dict[str, Any], state: str, scores: dict[str, float]) -> Answer:
        """Make the run of a trial a child, and return its id and its intermediate scores.

        Args:
            flow_run: id of the trial's flow run.
            number: of the trial.
            params: what the trial changes.
            state: that of Optuna; as long as it is RUNNING, no run is made of a trial that has none yet.
            scores: final ones.

        Returns:
            `run_id`, `experiment_id` and `curve`: by the percentage of the training's steps; empty if there is no run.
        """
        runs = self._search(FLOW_TAG, flow_run)
        if not runs and state == "RUNNING":
            return {}
        run = runs[0] if runs else self._lacking(flow_run, number, params)
        tags = {PARENT: self.id, TRIAL_TAG: str(number), STATE_TAG: state}
        for tag, value in tags.items():
            if run.data.tags.get(tag) != value:
                self.client.set_tag(run.info.run_id, tag, value)
        for name, score in scores.items():
            if run.data.metrics.get(name) != score:
                self.client.log_metric(run.info.run_id, name, score)
        return {"run_id": run.info.run_id, "experiment_id": self.experiment, "curve": self._curve(run)}

    def _lacking(self, flow_run: str, number: int, params: dict[str, Any]) -> Run:
        """Return a new run for a trial that did not train."""
        run = self.client.create_run(self.experiment, run_name=f"trial {number}", tags={FLOW_TAG: flow_run})
        for name, value in params.items():
            self.client.log_param(run.info.run_id, name, value)
        self.client.set_terminated(run.info.run_id)
        return self.client.get_run(run.info.run_id)

    def _curve(self, run: Run) -> dict[int, float]:
        steps = int(run.data.params.get("train.steps", 0))
        history = [
            point
            for name in run.data.metrics
            if name.startswith(CURVE)
            for point in self.client.get_metric_history(run.info.run_id, name)
        ]
        return {100 * point.step // steps: point.value for point in history} if steps else {}

    def end(self, files: list[str], metrics: dict[str, float], status: str) -> Answer:
        """Log files and metrics of the whole sweep, and end its run."""
        for path in files:
            self.client.log_artifact(self.id, str(Path(path)))
        for name, value in metrics.items():
            self.client.log_metric(self.id, name, value)
        self.client.set_terminated(self.id, status)
        return {"run_id": self.id, "experiment_id": self.experiment}


def main() -> None:
    """Answer each line of stdin, to its end; the first one names the sweep. What MLflow refuses is `error`."""
    sweep: SweepRun | None = None
    for line in sys.stdin:
        question = json.loads(line)
        try:
            if sweep is None:
                sweep = SweepRun(**question)
                answer = {"run_id": sweep.id, "experiment_id": sweep.experiment}
            else:
                answer = sweep.end(**question) if "files" in question else sweep.trial(**question)
        except (MlflowException, UserError) as error:
            answer = {"error": str(error)}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    with command_line():
        main()
