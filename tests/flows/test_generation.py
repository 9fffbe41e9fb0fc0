import base64
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import flows.generation
from flows.failure import StageFailedError
from flows.generation import gan_generate
from tests.servers import Deployment, FlowRun, wait_for


@pytest.fixture
def called(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Return what the flow passes to the command, which here writes a manifest, and to Prefect's UI."""
    received: dict[str, Any] = {}

    def command(arguments: list[str], *, return_state: bool) -> SimpleNamespace:
        assert return_state
        folder = Path(arguments[-1])
        facts = {"count": int(arguments[-2]), "model": "m", "version": "3", "truncation": None}
        (folder / "manifest.json").write_text(json.dumps(facts))
        (folder / "grid.png").write_bytes(b"a picture")
        received["arguments"] = arguments
        return SimpleNamespace(result=lambda: None)

    monkeypatch.setattr(flows.generation, "generate", command)
    monkeypatch.setattr(flows.generation, "create_markdown_artifact", lambda **artifact: received.update(artifact))
    return received


@pytest.mark.parametrize(
    ("parameters", "options"),
    [
        ({}, ["--seed=0"]),
        (
            {"seed": 4, "truncation": 0.5, "label": "a cat", "model": "models:/m/3"},
            ["--seed=4", "--truncation=0.5", "--label=a cat", "--model=models:/m/3"],
        ),
    ],
)
def test_parameters_become_arguments(
    called: dict[str, Any], tmp_path: Path, parameters: dict[str, Any], options: list[str]
) -> None:
    gan_generate.fn(1200, str(tmp_path), **parameters)
    assert called["arguments"] == [*options, "--", "1200", str(tmp_path)]


def test_prefect_shows_the_first_images_and_what_they_were_made_from(called: dict[str, Any], tmp_path: Path) -> None:
    gan_generate.fn(1200, str(tmp_path))
    assert called["key"] == "gan-images"
    assert called["description"] == f"1,200 images of m version 3 in {tmp_path}"
    assert f"](data:image/png;base64,{base64.b64encode(b'a picture').decode()})" in called["markdown"]
    assert "| version | 3 |\n| truncation | none |" in called["markdown"]


def test_an_error_is_the_state_and_nothing_is_shown(
    called: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def result() -> None:
        raise StageFailedError("stage generate failed (exit 1): no model")

    monkeypatch.setattr(flows.generation, "generate", lambda *_, return_state: SimpleNamespace(result=result))
    state = gan_generate.fn(1200, str(tmp_path))
    assert state is not None
    assert (state.is_failed(), state.message) == (True, "stage generate failed (exit 1): no model")
    assert called == {}


@pytest.mark.slow
def test_the_deployment_writes_images_or_fails_with_the_reason(deployed: Deployment, flow_run: FlowRun) -> None:
    words = ["-p", "count=20", "-p", "folder=generated/twenty", "-p", "model=models:/gan-digits/1"]
    done = deployed.watch(*words, flow="gan-generate")
    assert done.returncode == 0, deployed.state(done)["message"]
    wait_for(lambda: deployed.tasks(done) == {"generate": "COMPLETED"}, "the task is not recorded")
    folder = deployed.project.root / "generated" / "twenty"
    assert len(list((folder / "images").iterdir())) == 20
    mine = {"flow_runs": {"id": {"any_": [done.id]}}, "artifacts": {"key": {"any_": ["gan-images"]}}}
    (artifact,) = deployed.ask("artifacts/filter", **mine)  # a slow machine shows progress in one of its own
    assert base64.b64encode((folder / "grid.png").read_bytes()).decode() in artifact["data"]
    again = deployed.watch(*words, flow="gan-generate")
    assert again.returncode == 1
    assert all(part in deployed.state(again)["message"] for part in ("generate", "exit 1", "generated/twenty"))
