"""`python -m flows.worker`: apply `prefect.yaml` to the server of PREFECT_API_URL, by default `make ui`'s, and work.

It also makes two automations there: Prefect marks a run as crashed only if its worker lives to tell, and starts no run
again. https://docs.prefect.io/v3/advanced/detect-zombie-flows
"""

import os
import subprocess
import sys
from datetime import timedelta
from typing import TYPE_CHECKING

from flows.environment import check_pipeline, check_server

if TYPE_CHECKING:
    from prefect.events.schemas.automations import AutomationCore

POOL = ("local", "--type", "process")
RESTARTED = ["gan-training"]
"""Flows whose crashed runs start again; each goes on from a checkpoint."""
SILENCE = timedelta(seconds=100)
"""Without a heartbeat, of which each run sends one every 30 seconds (prefect.toml), until a run counts as crashed."""
QUIET = timedelta(seconds=20)
"""Between a crash and the next start: a worker reports a crash twice, the second time seconds later."""
BEGINS = ("Scheduled", "AwaitingRetry", "Pending", "Running")
HEARTBEAT, ENDS = "prefect.flow-run.heartbeat", ("Completed", "Failed", "Crashed", "Cancelled", "Paused")


def automations() -> "list[AutomationCore]":
    """Return two: a run without heartbeats becomes Crashed, and one that stays so is scheduled again."""
    # Prefect reads PREFECT_API_URL when it is imported.
    from prefect.client.schemas.objects import StateType
    from prefect.events.actions import ChangeFlowRunState
    from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture
    from prefect.events.schemas.events import ResourceSpecification

    any_run = ResourceSpecification({"prefect.resource.id": "prefect.flow-run.*"})
    silent = EventTrigger(
        match=any_run,
        for_each={"prefect.resource.id"},
        after={HEARTBEAT},
        expect={HEARTBEAT, *(f"prefect.flow-run.{name}" for name in ENDS)},
        posture=Posture.Proactive,
        threshold=1,
        within=SILENCE,
    )
    crashed = EventTrigger(
        match=any_run,
        match_related=ResourceSpecification({"prefect.resource.role": "flow", "prefect.resource.name": RESTARTED}),
        for_each={"prefect.resource.id"},
        after={"prefect.flow-run.Crashed"},
        expect={f"prefect.flow-run.{name}" for name in (*BEGINS, "Completed", "Failed", "Cancelled")},
        posture=Posture.Proactive,
        threshold=1,
        within=QUIET,
    )
    message = f"no heartbeat for {SILENCE.seconds} seconds: its process or its machine is gone"
    crash = ChangeFlowRunState(name=None, state=StateType.CRASHED, message=message, force=False)
    message = "started again after a crash"
    again = ChangeFlowRunState(name="AwaitingRetry", state=StateType.SCHEDULED, message=message, force=False)
    return [
        AutomationCore(name="equilibrium: silent runs have crashed", trigger=silent, actions=[crash]),
        AutomationCore(name="equilibrium: crashed trainings start again", trigger=crashed, actions=[again]),
    ]


def create_automations() -> None:
    """Create the automations, or bring those of the same names up to date."""
    from prefect.client.orchestration import get_client  # as above

    with get_client(sync_client=True) as client:
        for wanted in automations():
            if present := client.read_automations_by_name(wanted.name):
                client.update_automation(present[0].id, wanted)
            else:
                client.create_automation(wanted)


if __name__ == "__main__":
    os.environ["PREFECT_API_URL"] = os.environ.get("PREFECT_API_URL") or "http://127.0.0.1:4200/api"
    check_server()
    check_pipeline()
    create_automations()
    prefect = (sys.executable, "-m", "prefect", "--no-prompt")
    for arguments in (("work-pool", "create", *POOL, "--overwrite"), ("deploy", "--all")):
        if status := subprocess.run([*prefect, *arguments], check=False).returncode:
            sys.exit(status)
    worker = (*prefect, "worker", "start", "--pool", *POOL)
    os.execv(sys.executable, worker)  # this process becomes the worker, so that signals reach it
