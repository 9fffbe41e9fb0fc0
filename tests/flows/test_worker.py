"""The automations, and a run whose process is killed; silent runs take longer than a test should."""

import signal
from contextlib import suppress
from pathlib import Path

import httpx
import psutil  # type: ignore[import-untyped]  # has no stubs among the locked packages
import pytest
from prefect.settings import PREFECT_API_URL, temporary_settings

from flows.worker import SILENCE, automations, create_automations
from tests.project import LONGER, ROOT, Project
from tests.servers import Deployment, FlowRun, stage_processes, wait_for


def test_silence_is_longer_than_several_heartbeats() -> None:
    (every,) = (
        line.split()[2] for line in (ROOT / "prefect.toml").read_text().splitlines() if "heartbeat_freq" in line
    )
    assert SILENCE.seconds > 3 * int(every)


@pytest.mark.slow
def test_automations_are_made_once(deployed: Deployment) -> None:
    with temporary_settings({PREFECT_API_URL: f"{deployed.address}/api"}):
        create_automations()
    present = [automation["name"] for automation in deployed.ask("automations/filter")]
    assert sorted(present) == sorted(automation.name for automation in automations())


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
        wait_for(lambda: checkpoints(root) - before, "training does not start")
        (flow,) = engines(root)
        flow.send_signal(signal.SIGKILL)
        wait_for(lambda: deployed.state(started)["type"] == "COMPLETED", "the run does not complete")
        run = httpx.get(f"{deployed.address}/api/flow_runs/{started.id}").json()
        assert run["run_count"] == 2
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
