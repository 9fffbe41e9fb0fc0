"""The flow runs of a sweep: started by a key, so that none starts twice, looked at together, cancelled."""

import json
from collections.abc import Iterable, Mapping
from typing import Any
from uuid import UUID

from prefect import State
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import (
    ArtifactFilter,
    ArtifactFilterFlowRunId,
    ArtifactFilterKey,
    FlowRunFilter,
    FlowRunFilterId,
    FlowRunFilterTags,
)
from prefect.client.schemas.objects import Artifact, FlowRun
from prefect.deployments import run_deployment
from prefect.exceptions import ObjectNotFound
from prefect.states import Cancelled, Cancelling

from flows.failure import StageFailedError
from flows.results import DECISION, SCORES

Scores = dict[str, dict[str, float]]
"""By name: `mean`, `low`, `high` of the 95 % interval over banks of z; with replicas `seeds_mean` and so on."""


def tag_of(sweep: str) -> str:
    """Return the tag of a sweep's flow runs."""
    return f"sweep:{sweep}"


def start(deployment: str, parameters: Mapping[str, Any], key: str, sweep: str) -> str:
    """Start a flow run, unless one of this key was; return its id. It goes on if the sweep ends.

    Args:
        deployment: FLOW/NAME.
        parameters: of the flow.
        key: of the trial.
        sweep: its name.

    Returns:
        The id.

    Raises:
        StageFailedError: there is no such deployment.
    """
    try:
        run = run_deployment(
            deployment,
            parameters=dict(parameters),
            timeout=0,
            tags=[tag_of(sweep)],
            idempotency_key=key,
            as_subflow=False,
        )
    except ObjectNotFound:
        raise StageFailedError(f"there is no deployment {deployment}; `make worker` makes gan-training/local") from None
    assert isinstance(run, FlowRun)
    return str(run.id)


def states(ids: Iterable[str]) -> dict[str, State[Any]]:
    """Return the states of flow runs by id, by one question to the server."""
    with get_client(sync_client=True) as client:
        runs = client.read_flow_runs(flow_run_filter=FlowRunFilter(id=FlowRunFilterId(any_=[UUID(run) for run in ids])))
    return {str(run.id): run.state for run in runs if run.state is not None}


def scores(run: str) -> Scores:
    """Return the final scores that a flow run has left; none if it left none."""
    rows = [row for artifact in _artifacts(run, SCORES)[-1:] for row in _rows(artifact.data)]
    return {row["score"]: {name: value for name, value in row.items() if name != "score"} for row in rows}


def decision(run: str) -> str:
    """Return what the gate decided on the model of a flow run; empty if it decided nothing."""
    return next((artifact.description or "" for artifact in reversed(_artifacts(run, DECISION))), "")


def _rows(data: Any) -> Any:
    return json.loads(data) if isinstance(data, str) else data or []


def _artifacts(run: str, key: str) -> list[Artifact]:
    """Return the artifacts of a key, the newest last."""
    wanted = ArtifactFilter(key=ArtifactFilterKey(any_=[key]), flow_run_id=ArtifactFilterFlowRunId(any_=[UUID(run)]))
    with get_client(sync_client=True) as client:
        return sorted(client.read_artifacts(artifact_filter=wanted), key=lambda artifact: str(artifact.created))


def cancel(run: str, *, at_once: bool = False) -> None:
    """Cancel a flow run: its worker ends it; `at_once` if it has none that could."""
    with get_client(sync_client=True) as client:
        client.set_flow_run_state(run, Cancelled() if at_once else Cancelling(), force=at_once)


def cancel_all(sweep: str) -> None:
    """Cancel the flow runs of a sweep that are not finished."""
    with get_client(sync_client=True) as client:
        runs = client.read_flow_runs(flow_run_filter=FlowRunFilter(tags=FlowRunFilterTags(all_=[tag_of(sweep)])))
    for run in runs:
        if run.state is not None and not run.state.is_final() and not run.state.is_cancelling():
            cancel(str(run.id))
