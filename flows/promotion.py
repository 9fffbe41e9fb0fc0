"""The flows `gan-promotion` and `gan-rollback`: the champion named by hand, with a reason that stays in the ledger."""

import os
import sys
from pathlib import Path

from prefect import State, flow
from prefect.artifacts import create_markdown_artifact
from prefect.runtime import flow_run
from prefect.states import Failed

from flows.failure import StageFailedError
from flows.stage import run

ROOT = Path(__file__).resolve().parent.parent


def _rollback_name() -> str:
    version = flow_run.parameters.get("version")
    return f"rollback to {'the champion before' if version is None else f'version {version}'}"


@flow(name="gan-promotion", flow_run_name="promote version {version}")
def gan_promotion(version: int, reason: str) -> State[None] | None:
    """Make a version champion, whatever the gate decided.

    Args:
        version: of the registered model.
        reason: one line.

    Returns:
        None, or why it failed.
    """
    return _decide("promote", str(version), f"--reason={reason}")


@flow(name="gan-rollback", flow_run_name=_rollback_name)
def gan_rollback(reason: str, version: int | None = None) -> State[None] | None:
    """Return to an earlier champion.

    Args:
        reason: one line.
        version: of the registered model; without it, the champion before the present one.

    Returns:
        None, or why it failed.
    """
    return _decide("rollback", *([] if version is None else [str(version)]), f"--reason={reason}")


def _decide(*arguments: str) -> State[None] | None:
    """Run the command and show the decision in Prefect's UI."""
    os.chdir(ROOT)
    try:
        lines = run([sys.executable, "-m", "commands.promote", *arguments], "promotion")
    except StageFailedError as error:  # the state says all; an exception would add a traceback of our own code
        return Failed(message=str(error))
    create_markdown_artifact(key="gan-decision", markdown="\n\n".join(lines), description=arguments[0])
    return None
