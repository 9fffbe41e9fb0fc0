"""`python -m flows.worker`: apply `prefect.yaml` to the server of PREFECT_API_URL, by default `make ui`'s, and work.

It also makes automations there: Prefect marks a run as crashed only if its worker lives to tell, and starts no run
again. https://docs.prefect.io/v3/advanced/detect-zombie-flows
"""

import os
import subprocess
import sys
from datetime import timedelta
from typing import TYPE_CHECKING, cast
from uuid import UUID

from pydantic import SecretStr

from flows.environment import check_server
from flows.experiment.dvc import checked, start_check
from flows.failure import BUSY

if TYPE_CHECKING:
    from prefect.events.schemas.automations import AutomationCore

POOL = ("local", "--type", "process")
RESTARTED = ["gan-training", "gan-retrain", "gan-sweep"]
"""Flows whose crashed runs start again; each goes on from a checkpoint, or with what its trials have found."""
SILENCE = timedelta(seconds=100)
"""Without a heartbeat, of which each run sends one every 30 seconds (prefect.toml), until a run counts as crashed."""
QUIET = timedelta(seconds=40)
"""Between a crash and the next start: a worker reports a crash twice, the second time seconds later."""
BEGINS = ("Scheduled", "AwaitingRetry", "Pending", "Running")
HEARTBEAT = "prefect.flow-run.heartbeat"
ENDS = ("Completed", "Promoted", "NothingNew", "Failed", "Crashed", "Cancelled", "Paused")
"""Names of states, those of `flows/training.py` and `flows/retraining/flow.py` among them."""
WEBHOOK = "EQUILIBRIUM_WEBHOOK"
"""Environment variable: an address that gets a POST with JSON when a run fails, and when a version is promoted."""
TOLD = {"failures": ("Failed", "Crashed"), "promotions": ("Promoted",)}
TEXT = "{{ flow.name }}: {{ flow_run.name }}: {{ flow_run.state.name }}: {{ flow_run.state.message }}"
PAYLOAD = f"""{{% set text %}}{TEXT}{{% endset %}}
{{"text": {{{{ text | string | tojson }}}}, "flow": {{{{ flow.name | tojson }}}},
"run": {{{{ flow_run.id | string | tojson }}}}, "state": {{{{ flow_run.state.name | tojson }}}},
"message": {{{{ flow_run.state.message | tojson }}}}, "url": {{{{ flow_run | ui_url | tojson }}}}}}"""
"""`text` alone is what chat services show."""


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
        expect={
            f"prefect.flow-run.{name}"
            for name in (*BEGINS, "Completed", "Promoted", "NothingNew", "Failed", "Cancelled")
        },
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


def notifications(address: str) -> "list[AutomationCore]":
    """Return two: the webhook of an address is called after failures and after promotions, in runs of our flows.

    The address is kept by the server, encrypted, as the block `equilibrium` of the type Webhook.
    """
    from prefect.blocks.webhook import Webhook  # as above
    from prefect.events.actions import CallWebhook
    from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture
    from prefect.events.schemas.events import ResourceSpecification

    block = cast(UUID, Webhook(url=SecretStr(address)).save("equilibrium", overwrite=True))
    call = CallWebhook(block_document_id=block, payload=PAYLOAD)
    ours: dict[str, str | list[str]] = {"prefect.resource.role": "flow", "prefect.resource.name": "gan-*"}
    return [
        AutomationCore(
            name=f"equilibrium: {what} call the webhook",
            trigger=EventTrigger(
                match=ResourceSpecification({"prefect.resource.id": "prefect.flow-run.*"}),
                match_related=ResourceSpecification(ours),
                expect={f"prefect.flow-run.{name}" for name in states},
                posture=Posture.Reactive,
                threshold=1,
            ),
            actions=[call],
        )
        for what, states in TOLD.items()
    ]


def create_automations() -> None:
    """Create the automations, or bring those of the same names up to date.

    One that is as it should be is left alone: at an update the server forgets the crashes that it has just seen. So is
    that a person disabled it.
    """
    from prefect.client.orchestration import get_client  # as above

    address = os.environ.get(WEBHOOK)
    with get_client(sync_client=True) as client:
        for wanted in [*automations(), *(notifications(address) if address else [])]:
            present, fields = client.read_automations_by_name(wanted.name), wanted.model_fields_set
            if not present:
                client.create_automation(wanted)
            elif present[0].model_dump(include=fields) != wanted.model_dump(include=fields):
                client.update_automation(present[0].id, wanted)


def _check_project() -> None:
    """End this process with an error if the project is not in order; if a run works in it, DVC cannot say."""
    dvc = start_check()
    try:
        checked(dvc)
    except SystemExit as refused:
        if BUSY not in str(refused.code):
            raise
    dvc.close()


if __name__ == "__main__":
    os.environ["PREFECT_API_URL"] = os.environ.get("PREFECT_API_URL") or "http://127.0.0.1:4200/api"
    check_server()
    _check_project()
    create_automations()
    prefect = (sys.executable, "-m", "prefect", "--no-prompt")
    for arguments in (("work-pool", "create", *POOL, "--overwrite"), ("deploy", "--all")):
        if status := subprocess.run([*prefect, *arguments], check=False).returncode:
            sys.exit(status)
    worker = (*prefect, "worker", "start", "--pool", *POOL)
    os.execv(sys.executable, worker)  # this process becomes the worker, so that signals reach it
