"""How Prefect shows stages that are up to date."""

from prefect import State, get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.states import Completed

from flows.experiment.dvc import Dvc

CHECKED: list[tuple[Dvc, set[str]]] = []
"""The DVC of this process and what it has answered before the flow began, for one use."""


def unchanged(name: str) -> None:
    """Show a stage as up to date; its task run ends at once, and Prefect calls it Cached."""

    def cached() -> State[None]:
        get_run_logger().info(f"{name} is up to date", extra={"stage": name, "kind": "unchanged"})
        return Completed(name="Cached", message="up to date, as DVC finds")

    task(name=name, task_run_name=name, cache_policy=NO_CACHE)(cached)(return_state=True)
