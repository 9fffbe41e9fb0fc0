"""What the flow does around its trials; they are made up, as in `test_trials`."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from optuna.trial import TrialState
from prefect.states import Completed

import flows.sweep.flow as sweeping
from flows.failure import StageFailedError
from flows.sweep import runs
from flows.sweep.trials import Sweep
from flows.worker import RESTARTED
from tests.flows.sweep.test_trials import Server, finish, server, sweep  # noqa: F401  # fixtures
from tests.project import ROOT


@pytest.fixture(autouse=True)
def written(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Return what the flow leaves in Prefect's UI; nothing waits."""
    artifacts: list[dict[str, Any]] = []
    monkeypatch.setattr(sweeping, "create_markdown_artifact", lambda **artifact: artifacts.append(artifact))
    monkeypatch.setattr(sweeping, "get_run_logger", lambda: __import__("logging").getLogger("sweep"))
    monkeypatch.setattr(sweeping, "POLL", 0.0)
    return artifacts


def test_the_flow_is_deployed_and_starts_again_after_a_crash() -> None:
    deployments = yaml.safe_load((ROOT / "prefect.yaml").read_text())["deployments"]
    assert "flows/sweep/flow.py:gan_sweep" in [deployment["entrypoint"] for deployment in deployments]
    assert sweeping.gan_sweep.name in RESTARTED


def test_the_best_goes_to_the_gate_under_seeds_that_no_trial_had(
    server: Server,  # noqa: F811
    sweep: Callable[..., Sweep],  # noqa: F811
    written: list[dict[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    one = sweep()
    finish(one)
    monkeypatch.setattr(runs, "states", lambda ids: dict.fromkeys(ids, Completed()))
    monkeypatch.setattr(runs, "decision", lambda run: "kept: gan-digits version 2")
    told: list[dict[str, Any]] = []
    monkeypatch.setattr(one.record, "ask", lambda **question: told.append(question))
    sweeping._conclude(one, to_gate=True)
    *trials, gate = server.started.values()
    best = min(trials, key=lambda parameters: parameters["overrides"]["train.beta1"])
    assert gate["to_registry"] is True
    seeds = {"train.seed": 1_000_000, "replicate.seeds": 4}
    assert gate["overrides"] == best["overrides"] | seeds
    (artifact,) = written
    assert "kept: gan-digits version 2" in artifact["description"]
    assert "| kept: gan-digits version 2 |" in artifact["markdown"]
    assert told[-1]["metrics"]["best_fid_digits"] == best["overrides"]["train.beta1"]
    sweeping._conclude(one, to_gate=True)
    assert len(server.started) == 7  # also the gate's run is started once


def test_a_sweep_outlives_a_server_that_is_away_for_a_while(
    server: Server,  # noqa: F811
    sweep: Callable[..., Sweep],  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    one, away = sweep(trials=2), iter([False, True, True, False])
    look = server.states

    def states(ids: Any) -> Any:
        if next(away, False):
            raise ConnectionError("refused")
        return look(ids)

    monkeypatch.setattr(runs, "states", states)
    sweeping._run(one, to_gate=False)
    assert [trial.state for trial in one.study.trials] == [TrialState.COMPLETE] * 2
    monkeypatch.setattr(runs, "states", lambda ids: (_ for _ in ()).throw(ConnectionError("refused")))
    monkeypatch.setattr(sweeping, "MOST_LOST", 3)
    with pytest.raises(ConnectionError):
        sweeping._run(sweep(trials=3), to_gate=False)


def test_a_sweep_without_a_score_says_so(sweep: Callable[..., Sweep], tmp_path: Path) -> None:  # noqa: F811
    one = sweep(trials=1)
    one.step()
    one.study.tell(0, state=TrialState.FAIL)
    with pytest.raises(StageFailedError, match="no trial has a score"):
        sweeping._conclude(one, to_gate=False)
