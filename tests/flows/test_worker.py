"""The automations, and a run whose process is killed; silent runs take longer than a test should."""

import json
import signal
import threading
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import httpx
import psutil  # type: ignore[import-untyped]  # has no stubs among the locked packages
import pytest
from prefect.client.orchestration import get_client
from prefect.settings import PREFECT_API_URL, temporary_settings

from flows.worker import SILENCE, WEBHOOK, automations, create_automations
from tests.project import LONGER, ROOT, Project
from tests.servers import FLOW_TIMEOUT, TIMEOUT, Deployment, FlowRun, stage_processes, wait_for


def test_silence_is_longer_than_several_heartbeats() -> None:
    (every,) = (
        line.split()[2] for line in (ROOT / "prefect.toml").read_text().splitlines() if "heartbeat_freq" in line
    )
    assert SILENCE.seconds > 3 * int(every)


@pytest.mark.slow
def test_automations_are_made_once_and_written_again_only_if_they_differ(deployed: Deployment) -> None:
    ours, present = automations(), deployed.ask("automations/filter")
    names = [automation["name"] for automation in present]
    assert [names.count(automation.name) for automation in ours] == [1, 1]
    with temporary_settings({PREFECT_API_URL: f"{deployed.address}/api"}), get_client(sync_client=True) as client:
        create_automations()
        assert deployed.ask("automations/filter") == present
        (before,) = client.read_automations_by_name(ours[0].name)
        client.update_automation(before.id, ours[0].model_copy(update={"actions": []}))
        create_automations()
        (after,) = client.read_automations_by_name(ours[0].name)
    assert after == before


@pytest.fixture
def called(deployed: Deployment, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[dict[str, str]]]:
    """Yield what the webhook of the deployment's automations has got; afterwards it has none."""
    got: list[dict[str, str]] = []

    class Hook(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            got.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(204)
            self.end_headers()

        def log_message(self, format: str, *arguments: object) -> None:
            """Print nothing."""

    with HTTPServer(("127.0.0.1", 0), Hook) as server, temporary_settings({PREFECT_API_URL: f"{deployed.address}/api"}):
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv(WEBHOOK, f"http://127.0.0.1:{server.server_port}/hook")
        create_automations()
        yield got
        server.shutdown()
    for automation in deployed.ask("automations/filter"):
        if "webhook" in automation["name"]:
            place = f"{deployed.address}/api/automations/{automation['id']}"
            wait_for(partial(_deleted, place), f"{place} stays")


def _deleted(place: str) -> bool:
    """Delete what an address names; a server that just writes into its database answers 503, or late."""
    with suppress(httpx.TransportError):
        return httpx.delete(place, timeout=TIMEOUT).status_code in (204, 404)
    return False


@pytest.mark.slow
def test_the_webhook_is_called_after_failures_and_promotions_of_our_flows(
    deployed: Deployment, called: list[dict[str, str]]
) -> None:
    quoted = 'error: params.yaml: "steps" is 0'
    ends = [
        ("others", "FAILED", "Failed", "not ours"),
        ("gan-retrain", "COMPLETED", "NothingNew", "nothing was done"),
        ("gan-retrain", "COMPLETED", "Promoted", "gan-x version 2: better"),
        ("gan-training", "FAILED", "Failed", quoted),
    ]
    for flow, kind, name, message in ends:
        run = deployed.ask("flow_runs/", flow_id=deployed.ask("flows/", name=flow)["id"], state={"type": "RUNNING"})
        state = {"type": kind, "name": name, "message": message}
        deployed.ask(f"flow_runs/{run['id']}/set_state", state=state, force=True)
    wait_for(lambda: len(called) >= 2, "the webhook is not called")
    told = {call["flow"]: call for call in called}
    assert [told[flow]["message"] for flow in ("gan-retrain", "gan-training")] == [ends[2][3], quoted]
    assert len(called) == 2
    assert all(call["message"] in call["text"] and call["run"] in call["url"] for call in called)


@pytest.mark.slow
def test_a_run_that_was_killed_starts_again_and_ends_with_the_bytes_of_one_that_was_not(
    deployed: Deployment, flow_run: FlowRun, experiment: tuple[Project, str]
) -> None:
    root = deployed.project.root
    params = (root / "params.yaml").read_text()
    deployed.project.set(train=LONGER)
    before = checkpoints(root)
    try:
        started = deployed.run()
        wait_for(lambda: checkpoints(root) - before, "training does not start", seconds=FLOW_TIMEOUT)
        (flow,) = engines(root)
        flow.send_signal(signal.SIGKILL)
        wait_for(lambda: deployed.state(started)["type"] == "CRASHED", "the run does not crash", seconds=FLOW_TIMEOUT)
        with temporary_settings({PREFECT_API_URL: f"{deployed.address}/api"}):
            create_automations()  # as a worker does that is started again now
        wait_for(
            lambda: deployed.state(started)["type"] == "COMPLETED", "the run does not complete", seconds=FLOW_TIMEOUT
        )
        assert deployed.read(started)["run_count"] == 2
        assert deployed.project.results() == experiment[0].results()
    finally:
        (root / "params.yaml").write_text(params)
        wait_for(lambda: not stage_processes(root), "a stage lives on")


def checkpoints(root: Path) -> set[Path]:
    """Return the checkpoints in a project, to which runs in workspaces add theirs."""
    return {*(root / ".checkpoints").glob("*/state.safetensors")}


def engines(root: Path) -> list[psutil.Process]:
    """Return the processes of flow runs in a project."""
    running = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if Path(process.cwd()) == root and "prefect.engine" in process.cmdline():
                running.append(process)
    return running
