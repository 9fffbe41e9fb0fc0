"""Sweeps on flow runs that are made up: each takes some looks to end, and may crash, fail or be cancelled."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState
from prefect import State
from prefect.logging import disable_run_logger
from prefect.states import Cancelled, Cancelling, Completed, Crashed, Failed, Running, Scheduled

from flows.failure import StageFailedError
from flows.sweep import runs
from flows.sweep.report import PARALLEL, draw, page, ranked
from flows.sweep.space import Range, Space, distributions
from flows.sweep.study import open_study, running
from flows.sweep.trials import PATIENCE, Sweep

SPACE: Space = {"train.beta1": Range(low=0, high=0.9), "train.loss": ["hinge", "relativistic"], "train.steps": [50]}
ASKED = {"preset": "params.yaml", "data": "", "commit": "abc", "score": "fid", "deployment": "gan-training/local"}


@dataclass
class Server:
    """Flow runs by key, and what a look at them finds; each trains for some looks and is scored by its parameters."""

    looks: int = 3
    ends: dict[int, State[Any]] = field(default_factory=dict)
    """How the run of a trial ends, if it is not scored."""
    slow: set[int] = field(default_factory=set)
    """Trials whose intermediate scores are bad."""
    started: dict[str, dict[str, Any]] = field(default_factory=dict)
    found: dict[str, State[Any]] = field(default_factory=dict)
    seen: dict[str, int] = field(default_factory=dict)
    most: int = 0

    def start(self, deployment: str, parameters: Mapping[str, Any], key: str, sweep: str) -> str:
        assert deployment == "gan-training/local"
        if key not in self.started:
            self.started[key], self.found[key] = dict(parameters), Scheduled()
        self.most = max(self.most, sum(not state.is_final() for state in self.found.values()))
        return key

    def states(self, ids: Any) -> dict[str, State[Any]]:
        for run in ids:
            self.seen[run] = self.seen.get(run, 0) + 1
            if self.found[run].is_cancelling():
                self.found[run] = Cancelled()
            elif not self.found[run].is_final():
                end = self.ends.get(number_of(run), Completed())
                self.found[run] = Running() if self.seen[run] <= self.looks else end
        return {run: self.found[run] for run in ids}

    def scores(self, run: str) -> runs.Scores:
        value = self.started[run]["overrides"]["train.beta1"]
        return {"fid_digits": {"mean": value, "low": value - 0.01, "high": value + 0.01}, "kid_digits": {"mean": 9.0}}

    def cancel(self, run: str, *, at_once: bool = False) -> None:
        self.found[run] = Cancelled() if at_once else Cancelling()

    def ask(self, **question: Any) -> dict[str, Any]:
        """Answer as MLflow's side does."""
        if "files" in question:
            return {}
        run = question["flow_run"]
        percent = 25 * self.seen.get(run, 0)
        bad = 100.0 if question["number"] in self.slow else 1.0
        return {"run_id": f"run-{run}", "experiment_id": "1", "curve": {str(percent): bad}}


def number_of(run: str) -> int:
    return int(run.rpartition("-")[2])


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    made = Server()
    for name in ("start", "states", "scores", "cancel"):
        monkeypatch.setattr(runs, name, getattr(made, name))
    monkeypatch.delenv("OPTUNA_STORAGE", raising=False)
    monkeypatch.setattr("flows.sweep.trials.get_run_logger", lambda: __import__("logging").getLogger("sweep"))
    with disable_run_logger():
        yield made


@pytest.fixture
def sweep(server: Server, tmp_path: Path) -> Callable[..., Sweep]:
    """Return a function that opens the sweep, as a new process does."""

    def opened(trials: int = 6, at_once: int = 2, prune: bool = True) -> Sweep:
        study = open_study(tmp_path, "s", ASKED)
        record: Any = server
        return Sweep("s", study, SPACE, distributions(SPACE), ASKED, trials, at_once, 0, prune, record)

    return opened


def states_of(study: optuna.Study) -> list[TrialState]:
    return [trial.state for trial in study.get_trials(deepcopy=False)]


def finish(one: Sweep, most: int = 200) -> None:
    for _ in range(most):
        if not one.step():
            return
    raise AssertionError("the sweep does not end")


def test_a_sweep_runs_each_trial_once_and_so_many_at_once(server: Server, sweep: Callable[..., Sweep]) -> None:
    one = sweep()
    finish(one)
    assert states_of(one.study) == [TrialState.COMPLETE] * 6
    assert len(server.started) == 6
    assert server.most == 2
    asked = [parameters["overrides"] for parameters in server.started.values()]
    assert all(values["train.steps"] == 50 for values in asked)
    assert [parameters["to_registry"] for parameters in server.started.values()] == [False] * 6
    assert one.study.best_value == min(values["train.beta1"] for values in asked)


@pytest.mark.parametrize("steps", [1, 4, 9])
def test_a_sweep_that_was_killed_goes_on(server: Server, sweep: Callable[..., Sweep], steps: int) -> None:
    first = sweep()
    for _ in range(steps):
        first.step()
    before = dict(server.started)
    second = sweep()
    finish(second)
    assert len(server.started) == 6
    assert server.started.items() >= before.items()
    assert states_of(second.study) == [TrialState.COMPLETE] * 6


def test_what_is_proposed_does_not_depend_on_when_the_sweep_was_killed(
    server: Server, sweep: Callable[..., Sweep], tmp_path: Path
) -> None:
    one = sweep()
    for _ in range(3):
        one.step()
    finish(sweep())
    broken = [parameters["overrides"] for parameters in server.started.values()]
    server.started.clear()
    server.found.clear()
    server.seen.clear()
    study = open_study(tmp_path / "other", "s", ASKED)
    finish(Sweep("s", study, SPACE, distributions(SPACE), ASKED, 6, 2, 0, True, one.record))
    assert [parameters["overrides"] for parameters in server.started.values()] == broken
    assert len({str(values) for values in broken}) == 6


def test_a_trial_that_was_cut_off_while_it_was_proposed_does_not_count(
    server: Server, sweep: Callable[..., Sweep]
) -> None:
    sweep().study.ask({"train.beta1": distributions(SPACE)["train.beta1"]})
    one = sweep()
    finish(one)
    assert states_of(one.study) == [TrialState.FAIL] + [TrialState.COMPLETE] * 6
    assert len(server.started) == 6


def test_a_bad_trial_is_pruned_and_is_none_that_failed(server: Server, sweep: Callable[..., Sweep]) -> None:
    server.slow = {5}
    one = sweep()
    finish(one)
    assert states_of(one.study) == [TrialState.COMPLETE] * 5 + [TrialState.PRUNED]
    (cancelled,) = [run for run, state in server.found.items() if state.is_cancelled()]
    assert number_of(cancelled) == 5
    assert one.failures == 0


def test_nothing_is_pruned_unless_asked_for(server: Server, sweep: Callable[..., Sweep]) -> None:
    server.slow = {5}
    one = sweep(prune=False)
    finish(one)
    assert states_of(one.study) == [TrialState.COMPLETE] * 6


def test_a_failed_trial_is_failed_and_the_others_go_on(server: Server, sweep: Callable[..., Sweep]) -> None:
    server.ends = {1: Failed(message="out of memory")}
    one = sweep()
    finish(one)
    assert states_of(one.study).count(TrialState.FAIL) == 1
    assert one.study.trials[1].user_attrs["why"] == "out of memory"
    assert len(server.started) == 6


def test_a_crashed_trial_has_time_to_start_again(server: Server, sweep: Callable[..., Sweep]) -> None:
    server.ends = {0: Crashed(), 1: Crashed(timestamp=datetime.now(UTC) - 2 * PATIENCE)}
    one = sweep(trials=2)
    for _ in range(10):
        one.step()
    assert states_of(one.study) == [TrialState.RUNNING, TrialState.FAIL]
    server.found[server_run(server, 0)], server.ends = Scheduled(), {}
    finish(one)
    assert states_of(one.study) == [TrialState.COMPLETE, TrialState.FAIL]


def server_run(server: Server, number: int) -> str:
    return next(run for run in server.started if number_of(run) == number)


def test_a_trial_that_a_person_cancels_is_made_up_for(server: Server, sweep: Callable[..., Sweep]) -> None:
    server.ends = {1: Cancelled()}
    one = sweep()
    finish(one)
    assert states_of(one.study).count(TrialState.COMPLETE) == 6
    assert len(server.started) == 7


def test_a_sweep_in_which_all_fails_ends(server: Server, sweep: Callable[..., Sweep]) -> None:
    server.ends = {number: Failed(message="no data") for number in range(20)}
    one = sweep(trials=20, at_once=1)
    with pytest.raises(StageFailedError, match="3 trials failed and none has a score, the last one: no data"):
        finish(one)
    assert running(one.study) == []


def test_a_name_belongs_to_one_sweep(sweep: Callable[..., Sweep], tmp_path: Path) -> None:
    sweep()
    assert open_study(tmp_path, "s", ASKED | {"commit": ""}).user_attrs["asked"] == ASKED
    with pytest.raises(StageFailedError, match="another score"):
        open_study(tmp_path, "s", ASKED | {"score": "kid"})


def test_the_page_has_the_best_first_and_pictures(server: Server, sweep: Callable[..., Sweep], tmp_path: Path) -> None:
    server.slow, server.ends = {6}, {2: Failed(message="out | of memory")}
    one = sweep(trials=8)
    finish(one)
    order = ranked(one.study)
    values = [trial.value for trial in order if trial.value is not None and trial.state == TrialState.COMPLETE]
    assert values == sorted(values)
    assert [trial.state for trial in order[len(values) :]] == [TrialState.PRUNED, TrialState.FAIL]
    drawn = draw(one.study, tmp_path, "fid_digits")
    text = page(one, {order[0].number: "promoted"}, drawn)
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    assert rows[2].startswith(f"| {order[0].number} | {values[0]:.4g} | [")
    assert "| promoted |" in rows[2]
    assert "failed: out \\| of memory" in rows[-1]
    assert len({row.replace("\\|", "").count("|") for row in rows}) == 1
    assert drawn[0].name == PARALLEL
    assert text.count("](data:image/png;base64,") == 2
    assert draw(open_study(tmp_path / "empty", "e", ASKED), tmp_path, "fid") == []
