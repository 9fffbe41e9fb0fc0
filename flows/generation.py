"""The flow `gan-generate`: images of a registered model in a folder, and the first of them in Prefect's UI."""

import json
import os
import sys
from pathlib import Path

from prefect import State, flow, task
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import NO_CACHE
from prefect.runtime import flow_run
from prefect.states import Failed

from flows.failure import StageFailedError
from flows.results import embedded
from flows.stage import run

ROOT = Path(__file__).resolve().parent.parent


def _run_name() -> str:
    asked = flow_run.parameters
    return f"{asked['count']:,} images of {asked.get('model') or 'the champion'} in {asked['folder']}"


@flow(name="gan-generate", flow_run_name=_run_name, log_prints=True)
def gan_generate(
    count: int,
    folder: str,
    seed: int = 0,
    truncation: float | None = None,
    label: str | None = None,
    model: str | None = None,
) -> State[None] | None:
    """Write images of a registered model as PNG files with a manifest; the same parameters give the same bytes.

    Args:
        count: images.
        folder: new or empty; a relative path starts at the project.
        seed: another seed gives other images.
        truncation: bound on the components of z, above 0: less varied images; none if left out.
        label: name or number of a class, if the model was trained with labels; all classes in turn if left out.
        model: a version, an alias, or `models:/NAME@ALIAS`; the champion if left out.

    Returns:
        None, or why it failed.
    """
    os.chdir(ROOT)
    options = {"--seed": seed, "--truncation": truncation, "--label": label, "--model": model}
    # Joined by =, no value is read as an option; after --, no path is.
    arguments = [f"{name}={value}" for name, value in options.items() if value is not None]
    try:
        generate([*arguments, "--", str(count), folder], return_state=True).result()
    except StageFailedError as error:  # the state says all; an exception would add tracebacks of our own code
        return Failed(message=str(error))
    publish(Path(folder))
    return None


@task(name="generate", task_run_name="generate", cache_policy=NO_CACHE)
def generate(arguments: list[str]) -> State[None] | None:
    """Run `python -m commands.generate`."""
    try:
        run([sys.executable, "-m", "commands.generate", *arguments], "generate")
    except StageFailedError as error:
        return Failed(message=str(error), data=error)
    return None


def publish(folder: Path) -> None:
    """Show the first images and what they were made from, both written by the command, in Prefect's UI."""
    facts = json.loads((folder / "manifest.json").read_text())
    rows = "\n".join(f"| {name} | {'none' if value is None else value} |" for name, value in facts.items())
    create_markdown_artifact(
        key="gan-images",
        markdown=f"{embedded(folder / 'grid.png', 'the first images')}\n\n| made from | |\n|---|---|\n{rows}\n",
        description=f"{facts['count']:,} images of {facts['model']} version {facts['version']} in {folder.resolve()}",
    )
