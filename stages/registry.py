"""The door to MLflow's model registry: versions, and the aliases and tags by which they say what the ledger says."""

from importlib.metadata import version
from pathlib import Path

import mlflow
import pandas as pd
from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.models import ModelSignature
from mlflow.types import ColSpec, DataType, Schema

from stages.errors import StageError
from stages.ledger import LEDGER, Ledger
from stages.succession import Identity, State, replay, said_of
from stages.tracking import KEY_TAG

CHAMPION, CHALLENGER, PREVIOUS = "champion", "challenger", "previous-champion"
WEIGHTS_TAG, PASSPORT_TAG = "generator.sha256", "passport"
HEAD_TAG = "ledger.head"
"""Of the registered model: sha256 of the last line about it that MLflow has seen."""
MIRRORED = ("role", "gate.decision", "gate.reason", "gate.p_value")
"""Tags of a version that come from the ledger alone."""
HERE = Path(__file__).resolve().parent
REQUIREMENTS = ("torch", "numpy", "safetensors", "pandas", "pillow", "mlflow")
SIGNATURE = ModelSignature(
    inputs=Schema(
        [
            ColSpec(DataType.long, "seed"),
            ColSpec(DataType.long, "count", required=False),
            ColSpec(DataType.long, "first", required=False),
            ColSpec(DataType.double, "truncation", required=False),
        ]
    ),
    outputs=Schema([ColSpec(DataType.long, "seed"), ColSpec(DataType.long, "number"), ColSpec(DataType.binary, "png")]),
)


def find_version(client: MlflowClient, name: str, run_id: str, weights_sha256: str) -> ModelVersion | None:
    """Return the version that holds these weights and comes from this run."""
    for found in client.search_model_versions(f"name = '{name}' and run_id = '{run_id}'"):
        if found.tags.get(WEIGHTS_TAG) == weights_sha256:
            return found
    return None


def add_version(name: str, run_id: str, generator: Path, tags: dict[str, str]) -> ModelVersion:
    """Log the generator as a model of its run and register it.

    Args:
        name: of the registered model.
        run_id: of the training.
        generator: safetensors.
        tags: of the new version.

    Returns:
        The new version.
    """
    with mlflow.start_run(run_id=run_id):
        model = mlflow.pyfunc.log_model(
            name="generator",
            python_model=str(HERE / "served_model.py"),
            artifacts={"generator": str(generator)},
            code_paths=[str(HERE.parent / "gan_core")],
            pip_requirements=[f"{package}=={version(package)}" for package in REQUIREMENTS],
            signature=SIGNATURE,
            input_example=pd.DataFrame({"seed": [0, 1], "count": [1, 2]}),
        )
    return mlflow.register_model(model.model_uri, name, tags=tags)


def named_version(client: MlflowClient, name: str, which: str) -> ModelVersion:
    """Return the version of a registered model that a number or an alias names.

    Args:
        client: of the tracking store.
        name: of the registered model.
        which: number or alias.

    Returns:
        The version.

    Raises:
        StageError: there is none.
    """
    try:
        by_name = client.get_model_version if which.isdigit() else client.get_model_version_by_alias
        return by_name(name, which)
    except MlflowException:
        known = sorted(int(found.version) for found in client.search_model_versions(f"name = '{name}'"))
        raise StageError(
            f"MLflow has no {name} {which} (versions there: {', '.join(map(str, known)) or 'none'}; store: "
            f"{mlflow.get_tracking_uri()}); name another, or set MLFLOW_TRACKING_URI to the store that has it"
        ) from None


def versions(client: MlflowClient, name: str) -> dict[str, dict[str, str]]:
    """Return the tags of all versions of a registered model by their numbers, the newest first."""
    found = {str(item.version): dict(item.tags) for item in client.search_model_versions(f"name = '{name}'")}
    return dict(sorted(found.items(), key=lambda item: -int(item[0])))


def number_of(who: Identity | None, found: dict[str, dict[str, str]]) -> str | None:
    """Return the newest version with these weights and scores, else the newest with these weights, if there is one."""
    if who is None:
        return None
    held = [number for number, tags in found.items() if tags.get(WEIGHTS_TAG) == who.weights]
    exact = [number for number in held if found[number].get(PASSPORT_TAG) == who.passport]
    return next(iter([*exact, *held]), None)


def identity(name: str, number: int, found: dict[str, dict[str, str]]) -> Identity:
    """Return whom a version holds.

    Args:
        name: of the registered model.
        number: of the version.
        found: its `versions`.

    Returns:
        Its identity.

    Raises:
        StageError: there is no such version, or it was not made by `register`.
    """
    if str(number) not in found:
        known = ", ".join(sorted(found, key=int)) or "none"
        raise StageError(f"{name} has no version {number}; its versions are: {known}")
    tags = found[str(number)]
    if missing := [tag for tag in (WEIGHTS_TAG, PASSPORT_TAG) if tag not in tags]:
        raise StageError(
            f"version {number} of {name} has no tag {' and no tag '.join(missing)}, so nobody knows what it holds; "
            "choose one that dvc repro register has made"
        )
    return Identity(tags[WEIGHTS_TAG], tags[PASSPORT_TAG], tags.get(KEY_TAG, ""))


def champion(client: MlflowClient, name: str) -> str | None:
    """Return the version that bears the alias `champion`, if any does."""
    models = client.search_registered_models(f"name = '{name}'")
    return str(models[0].aliases[CHAMPION]) if models and CHAMPION in models[0].aliases else None


def mirror(client: MlflowClient, name: str, ledger: Ledger) -> list[str]:
    """Make a registered model say what the ledger says, whatever it said before; twice changes nothing.

    Args:
        client: of the registry.
        name: of the registered model; where MLflow has none yet, nothing is done.
        ledger: held by this process.

    Returns:
        A sentence for each alias that was moved.

    Raises:
        StageError: MLflow has seen a decision that this ledger lacks.
    """
    models = client.search_registered_models(f"name = '{name}'")
    if not models:
        return []
    _mirror_head(client, name, models[0].tags.get(HEAD_TAG), ledger)
    state, found = replay(ledger.entries, name), versions(client, name)
    standing = {alias: str(number) for alias, number in models[0].aliases.items()}
    moved = _mirror_aliases(client, name, standing, state, found)
    for number, tags in found.items():
        wanted = said_of(tags.get(WEIGHTS_TAG), tags.get(PASSPORT_TAG), ledger.entries, name)
        for tag in MIRRORED:
            if tag in wanted and wanted[tag] != tags.get(tag):
                client.set_model_version_tag(name, number, tag, wanted[tag])
            elif tag in tags and tag not in wanted:
                client.delete_model_version_tag(name, number, tag)
    return moved


def _mirror_head(client: MlflowClient, name: str, seen: str | None, ledger: Ledger) -> None:
    """Note the ledger's last line; that comes before all else, so that others see a decision which is not done yet."""
    if seen is not None and not ledger.knows(seen):
        raise StageError(
            f"MLflow has seen a decision about {name} that {ledger.path} lacks (its line has sha256 {seen[:12]}...): "
            f"somebody decided in another clone, or {LEDGER} was put back to an older state. Bring it here (git pull; "
            f"git log --all {LEDGER}) and run again; if it is lost for good, delete the tag {HEAD_TAG} of the "
            "registered model in MLflow: from then on this ledger counts"
        )
    head = ledger.head(name)
    if head is not None and head != seen:
        client.set_registered_model_tag(name, HEAD_TAG, head)


def _mirror_aliases(
    client: MlflowClient, name: str, standing: dict[str, str], state: State, found: dict[str, dict[str, str]]
) -> list[str]:
    wanted, moved = {CHAMPION: state.champion, CHALLENGER: state.challenger, PREVIOUS: state.previous}, []
    for alias, who in wanted.items():
        number, old = number_of(who, found), standing.get(alias)
        if number == old:
            continue
        if number is None:
            client.delete_registered_model_alias(name, alias)
        else:
            client.set_registered_model_alias(name, alias, number)
        moved.append(f"{alias} of {name} is {_shown(number)}, as {LEDGER} says; in MLflow it was {_shown(old)}")
    return moved


def _shown(number: str | None) -> str:
    return "no version" if number is None else f"version {number}"
