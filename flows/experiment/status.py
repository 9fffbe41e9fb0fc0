"""Which stages are up to date: one question to DVC for all of them, and how Prefect shows those that are."""

import json
import sys
from pathlib import Path

from prefect import State, get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.states import Completed

from flows.experiment.workspace import output

CHECKED: list[set[str]] = []
"""What DVC has answered in this process before its flow began, for one use."""


def outdated() -> set[str]:
    """Return the stages whose parameters, inputs or outputs are not those of `dvc.lock`.

    One that reads what these will make is not among them.
    """
    answer = output([sys.executable, "-m", "dvc", "status", "--json", "dvc.yaml"], Path.cwd())
    return {*json.loads(answer)}


def unchanged(name: str) -> None:
    """Show a stage as up to date; its task run ends at once, and Prefect calls it Cached."""

    def cached() -> State[None]:
        get_run_logger().info(f"{name} is up to date", extra={"stage": name, "kind": "unchanged"})
        return Completed(name="Cached", message="up to date, as DVC finds")

    task(name=name, task_run_name=name, cache_policy=NO_CACHE)(cached)(return_state=True)
