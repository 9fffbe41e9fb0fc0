from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any

import pytest
from prefect import Flow

import flows.training
from flows.experiment.dvc import Dvc
from flows.failure import StageDiedError, StageFailedError
from flows.retraining.flow import gan_retrain
from flows.sweep.flow import gan_sweep
from flows.training import MOST_STARTS, gan_training
from flows.worker import RESTARTED

STARTS: Mapping[str, tuple[Flow[..., Any], dict[str, Any]]] = {
    "gan-training": (gan_training, {}),
    "gan-retrain": (gan_retrain, {}),
    "gan-sweep": (gan_sweep, {"name": "rates", "space": {}}),
}
"""Flows by name, with parameters."""


@pytest.mark.parametrize("name", RESTARTED)
def test_what_starts_again_after_a_crash_comes_to_an_end(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flows.training, "flow_run", SimpleNamespace(run_count=MOST_STARTS + 1))
    flow, parameters = STARTS[name]
    state = flow.fn(**parameters)
    assert (state.is_failed(), state.message.partition(";")[0]) == (True, f"crashed {MOST_STARTS} times")


@pytest.mark.parametrize(
    ("stage", "error", "expected"),
    [
        ("train", StageFailedError("training stopped: divergence"), ["**training stopped: divergence**"]),
        ("train", StageDiedError("killed"), []),
        ("prepare", StageFailedError("too many refused"), []),
    ],
)
def test_a_training_that_fails_shows_its_error(
    stage: str, error: Exception, expected: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[str] = []

    def result() -> None:
        raise error

    def task(_: Dvc, name: str, **__: object) -> Callable[..., SimpleNamespace]:
        state = SimpleNamespace(result=result if name == stage else lambda: None)
        return lambda *, return_state: state

    def note(*, key: str, markdown: str, description: str) -> None:
        assert key == "gan-doctor"
        written.append(markdown)

    monkeypatch.setattr(flows.training, "stage_task", task)
    monkeypatch.setattr(flows.training, "outdated", lambda _: {"prepare", "train"})
    monkeypatch.setattr(flows.training, "unchanged", lambda name: None)
    monkeypatch.setattr(flows.training, "advise", lambda: None)
    monkeypatch.setattr(flows.training, "_end_earlier_runs", lambda: None)  # which asks a server
    monkeypatch.setattr(flows.training, "create_markdown_artifact", note)
    state = gan_training.fn()
    assert state is not None
    assert state.is_failed()
    assert state.message == str(error)
    assert written == expected
