"""The trials of a sweep: proposed, started, looked at, pruned and scored, until there are as many as asked for."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.trial import FrozenTrial, TrialState
from prefect import State, get_run_logger

from flows.failure import StageFailedError
from flows.sweep import runs
from flows.sweep.record import Record
from flows.sweep.space import Space, overrides
from flows.sweep.study import CANCELLED, ID, opened, propose, proposed, running

PATIENCE = timedelta(seconds=180)
"""A crashed flow run starts again within a minute (flows/worker.py); one that stays crashed for longer does not."""
MOST_FAILURES = 3
"""Of trials before the first score: what makes all of them fail is to be corrected first."""
FLOW_RUN, PRUNED, SCORES, RUN, WHY = "flow_run", "pruned", "scores", "run", "why"
"""Attributes of a trial: its flow run, whether it was ended early, final scores, run in MLflow, why it failed."""


@dataclass
class Sweep:
    """A study, and how its trials run."""

    name: str
    study: optuna.Study
    space: Space
    drawn: Mapping[str, BaseDistribution]
    asked: Mapping[str, Any]
    """Preset, data, commit, score and deployment."""
    trials: int
    at_once: int
    seed: int
    prune: bool
    record: Record
    failures: int = 0
    flow_runs: dict[int, str] = field(default_factory=dict)

    def step(self) -> bool:
        """Propose trials for free places, start them, take up what has happened; return whether more is to come."""
        free = min(self.at_once - len(running(self.study)), self.trials - len(proposed(self.study, self.drawn)))
        for _ in range(free):
            propose(self.study, self.drawn, trials=self.trials, at_once=self.at_once, seed=self.seed)
        present = [trial for trial in running(self.study) if self._started(trial)]
        states = runs.states([self.flow_runs[trial.number] for trial in present]) if present else {}
        for trial in present:
            self._look(trial, states.get(self.flow_runs[trial.number]))
        return bool(running(self.study)) or len(proposed(self.study, self.drawn)) < self.trials

    def parameters(self, trial: FrozenTrial) -> dict[str, Any]:
        """Return the parameters of `gan-training` for a trial."""
        chosen = {key: self.asked[key] for key in ("preset", "data", "commit")}
        return chosen | {"overrides": overrides(self.space, trial.params), "to_registry": False}

    def _started(self, trial: FrozenTrial) -> bool:
        """Start the flow run of a trial or, after a stop of the sweep, take up the one that it has."""
        if trial.number in self.flow_runs:
            return True
        if trial.params.keys() != self.drawn.keys():  # the sweep was killed while it was proposed
            self.study.tell(trial.number, state=TrialState.FAIL, skip_if_finished=True)
            return False
        key = f"{self.study.user_attrs[ID]}-{trial.number}"
        run = runs.start(self.asked["deployment"], self.parameters(trial), key, self.name)
        self.flow_runs[trial.number] = run
        opened(self.study, trial).set_user_attr(FLOW_RUN, run)
        get_run_logger().info(f"trial {trial.number}: {overrides(self.space, trial.params)}, flow run {run}")
        return True

    def _look(self, trial: FrozenTrial, state: State[Any] | None) -> None:
        """Take up the state of a trial's flow run; None if somebody has deleted it."""
        pruned = trial.user_attrs.get(PRUNED)
        if state is not None and state.is_completed():
            self._score(trial)
        elif pruned and (state is None or state.is_cancelled() or state.is_failed()):
            self._end(trial, TrialState.PRUNED)
        elif pruned and state is not None:
            if not state.is_cancelling():
                runs.cancel(self.flow_runs[trial.number], at_once=state.is_crashed())
        elif state is None or state.is_failed() or state.is_cancelled() or stays_crashed(state):
            ended = state is None or state.is_cancelled()
            opened(self.study, trial).set_user_attr(CANCELLED, ended)
            self._end(trial, TrialState.FAIL, "cancelled" if ended else state.message or "" if state else "")
        elif state.is_running():
            self._read(trial)

    def _score(self, trial: FrozenTrial) -> None:
        """Take the final score of a trial; one that has none has failed."""
        scores = runs.scores(self.flow_runs[trial.number])
        name = score_name(scores, self.asked["score"])
        if name is None:
            self._end(trial, TrialState.FAIL, f"its flow run has left no {self.asked['score']}")
            return
        opened(self.study, trial).set_user_attr(SCORES, scores)
        self._ask(trial, TrialState.COMPLETE, {key: score["mean"] for key, score in scores.items()})
        self.study.tell(trial.number, scores[name]["mean"], skip_if_finished=True)
        get_run_logger().info(f"trial {trial.number}: {name} {scores[name]['mean']:.4g}")

    def _end(self, trial: FrozenTrial, state: TrialState, why: str = "") -> None:
        """End a trial without a final score."""
        if why:
            opened(self.study, trial).set_user_attr(WHY, why)
        self._ask(trial, state)
        self.study.tell(trial.number, state=state, skip_if_finished=True)
        get_run_logger().info(f"trial {trial.number}: {state.name.lower()} {why}")
        self.failures += state == TrialState.FAIL and why != "cancelled"
        complete = self.study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        if self.failures >= MOST_FAILURES and not complete:
            raise StageFailedError(f"{self.failures} trials failed and none has a score, the last one: {why}")

    def _read(self, trial: FrozenTrial) -> None:
        """Report the intermediate scores of a trial that runs, and prune it if they are worse than the median."""
        curve = {int(percent): value for percent, value in self._ask(trial, TrialState.RUNNING).items()}
        live = opened(self.study, trial)
        for percent in sorted(curve.keys() - trial.intermediate_values.keys()):
            live.report(curve[percent], percent)
        if self.prune and curve and max(curve) < 100 and live.should_prune():
            live.set_user_attr(PRUNED, True)
            runs.cancel(self.flow_runs[trial.number])
            get_run_logger().info(f"trial {trial.number}: ended at {max(curve)} % of its steps")

    def _ask(self, trial: FrozenTrial, state: TrialState, scores: Mapping[str, float] = {}) -> dict[str, float]:
        """Tell MLflow about a trial; return its intermediate scores."""
        answer = self.record.ask(
            flow_run=self.flow_runs[trial.number],
            number=trial.number,
            params=overrides(self.space, trial.params),
            state=state.name,
            scores=dict(scores),
        )
        if answer and RUN not in trial.user_attrs:
            place = {"run_id": answer["run_id"], "experiment_id": answer["experiment_id"]}
            opened(self.study, trial).set_user_attr(RUN, place)
        curve: dict[str, float] = answer.get("curve", {})
        return curve


def score_name(scores: Mapping[str, Any], kind: str) -> str | None:
    """Return the name of a score of a kind, which ends with that of an extractor unless this is Inception."""
    return next((name for name in scores if name == kind or name.startswith(f"{kind}_")), None)


def stays_crashed(state: State[Any]) -> bool:
    """Return whether a crashed flow run starts no more."""
    return state.is_crashed() and state.timestamp is not None and datetime.now(UTC) - state.timestamp > PATIENCE
