"""The flows `gan-promotion` and `gan-rollback`: the champion named by hand, with a reason that stays in the ledger."""

import os
import sys
from pathlib import Path

from prefect import flow
from prefect.artifacts import create_markdown_artifact

from flows.stage import run

ROOT = Path(__file__).resolve().parent.parent


@flow(name="gan-promotion")
def gan_promotion(version: int, reason: str) -> None:
    """Make a version champion, whatever the gate decided.

    Args:
        version: of the registered model.
        reason: one line.
    """
    _decide("promote", str(version), f"--reason={reason}")


@flow(name="gan-rollback")
def gan_rollback(reason: str, version: int | None = None) -> None:
    """Return to an earlier champion.

    Args:
        reason: one line.
        version: of the registered model; without it, the champion before the present one.
    """
    _decide("rollback", *([] if version is None else [str(version)]), f"--reason={reason}")


def _decide(*arguments: str) -> None:
    """Run the command and show the decision in Prefect's UI."""
    os.chdir(ROOT)
    lines = run([sys.executable, "-m", "commands.promote", *arguments], "promotion")
    create_markdown_artifact(key="gan-decision", markdown="\n\n".join(lines), description=arguments[0])
