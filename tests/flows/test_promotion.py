import json
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
import yaml

import flows.promotion
from flows.failure import StageFailedError
from flows.promotion import gan_promotion, gan_rollback
from tests.project import ROOT, Project
from tests.servers import Deployment


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Return what the flows start and write, while neither runs."""
    calls: list[Any] = []

    def run(command: list[str], name: str) -> list[str]:
        calls.append([*command, name])
        return ["alias repaired", "version 2 is champion"]

    monkeypatch.setattr(flows.promotion, "run", run)
    monkeypatch.setattr(flows.promotion, "create_markdown_artifact", lambda **artifact: calls.append(artifact))
    monkeypatch.setattr("os.chdir", lambda _: None)
    return calls


@pytest.mark.parametrize(
    ("decide", "arguments"),
    [
        (lambda: gan_promotion.fn(version=3, reason="people like it"), ["promote", "3", "--reason=people like it"]),
        (lambda: gan_rollback.fn(reason="--artefacts; rm"), ["rollback", "--reason=--artefacts; rm"]),
        (lambda: gan_rollback.fn(reason="artefacts", version=1), ["rollback", "1", "--reason=artefacts"]),
    ],
)
def test_a_flow_runs_the_command_and_leaves_the_decision(
    started: list[Any], decide: Callable[[], None], arguments: list[str]
) -> None:
    decide()
    command, artifact = started
    assert command == [sys.executable, "-m", "commands.promote", *arguments, "promotion"]
    assert artifact["key"] == "gan-decision"
    assert artifact["markdown"] == "alias repaired\n\nversion 2 is champion"


def test_a_refused_decision_is_the_state(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(*_: object) -> list[str]:
        raise StageFailedError("stage promotion failed (exit 1): no such version")

    monkeypatch.setattr(flows.promotion, "run", run)
    monkeypatch.setattr("os.chdir", lambda _: None)
    for state in (gan_promotion.fn(version=3, reason="it"), gan_rollback.fn(reason="it")):
        assert state is not None
        assert (state.is_failed(), state.message) == (True, "stage promotion failed (exit 1): no such version")


def test_both_flows_are_deployed() -> None:
    deployments = yaml.safe_load((ROOT / "prefect.yaml").read_text())["deployments"]
    entries = {deployment["entrypoint"].split(":")[1] for deployment in deployments if deployment["name"] == "local"}
    assert {"gan_training", "gan_promotion", "gan_rollback"} <= entries
    assert (gan_promotion.name, gan_rollback.name) == ("gan-promotion", "gan-rollback")


PREPARE = """
from mlops.tracking.aliases import sync_aliases
from mlops.promotion.ledger import locked_ledger
from mlops.tracking.runs import connect
from tests.decisions import add_version, who
client, _ = connect()
with locked_ledger() as ledger:
    for name in "ab":
        add_version(client, "gan-digits", who(name))
        ledger.append("promoted", "gan-digits", who(name), "better", {"bounds": [], "test": None})
    sync_aliases(client, "gan-digits", ledger)
"""
ROLLBACK = "from flows.promotion import gan_rollback; gan_rollback(reason='b has artefacts')"


@pytest.mark.slow
def test_a_rollback_runs_as_a_flow(project: Callable[[], Project], deployed: Deployment) -> None:
    made, server = project(), f"{deployed.address}/api"
    assert made.run(sys.executable, "-c", PREPARE).returncode == 0
    ended: subprocess.CompletedProcess[str] = made.run(sys.executable, "-c", ROLLBACK, PREFECT_API_URL=server)
    assert ended.returncode == 0, ended.stdout
    assert "gan-digits: version 1 is champion, rolled back: b has artefacts (before: version 2)" in ended.stdout
    last = json.loads((made.root / "ledger.jsonl").read_bytes().splitlines()[-1])
    assert (last["action"], last["reason"]) == ("rolled back", "b has artefacts")
    failed = made.run(sys.executable, "-c", ROLLBACK, PREFECT_API_URL=server)
    assert failed.returncode == 1
    assert "ledger.jsonl names no champion of gan-digits" in failed.stdout
    assert "NoneType: None" not in failed.stdout
    assert "Encountered exception" not in failed.stdout
