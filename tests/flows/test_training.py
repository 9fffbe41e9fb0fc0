from collections.abc import Callable
from types import SimpleNamespace

import pytest

import flows.training
from flows.experiment.dvc import Dvc
from flows.failure import StageDiedError, StageFailedError


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
    monkeypatch.setattr(flows.training, "create_markdown_artifact", note)
    state = flows.training.gan_training.fn()
    assert state is not None
    assert state.is_failed()
    assert state.message == str(error)
    assert written == expected
