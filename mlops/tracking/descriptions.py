"""The door to what MLflow's pages say of a version: tags and descriptions, which a person may write too."""

import hashlib
from pathlib import Path
from tempfile import TemporaryDirectory

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from mlops.tracking import versions as registry

VERDICT_TAG = "verdict"
"""Tag of a version: how it compares with the champion, in a few words."""
CARD_TAG = "card.sha256"
"""Tag of a version and of a model: sha256 of the description that we wrote; another one is a person's."""
MODEL_CARD = "card/model.md"
"""Artifact of a version's run: what the registered model's description says while that version is champion."""


def tag_version(client: MlflowClient, name: str, number: str, tags: dict[str, str]) -> None:
    """Write tags of a version that are not there as they are."""
    known = client.get_model_version(name, number).tags
    for key, value in tags.items():
        if known.get(key) != value:
            client.set_model_version_tag(name, number, key, value)


def describe_version(client: MlflowClient, name: str, number: str, text: str) -> None:
    """Write the description of a version, unless a person did."""
    found, digest = client.get_model_version(name, number), hashlib.sha256(text.encode()).hexdigest()
    if _is_ours(found.description, found.tags) and found.description != text:
        client.set_model_version_tag(name, number, CARD_TAG, digest)
        client.update_model_version(name, number, text)


def describe_model(client: MlflowClient, name: str, text: str) -> None:
    """Write the description of a registered model, unless a person did."""
    found, digest = client.get_registered_model(name), hashlib.sha256(text.encode()).hexdigest()
    if _is_ours(found.description, found.tags) and found.description != text:
        client.set_registered_model_tag(name, CARD_TAG, digest)
        client.update_registered_model(name, text)


def describe_champion(client: MlflowClient, name: str) -> None:
    """Write the champion's card as the description of the registered model, if there is a champion."""
    number = registry.champion(client, name)
    if number is not None:
        run_id = str(client.get_model_version(name, number).run_id)
        describe_model(client, name, _model_card(client, run_id) or f"Version {number} is champion.")


def _model_card(client: MlflowClient, run_id: str) -> str | None:
    """Return what `register` wrote into a run; None for a version that it did not make."""
    with TemporaryDirectory() as folder:
        try:
            return Path(client.download_artifacts(run_id, MODEL_CARD, folder)).read_text(encoding="utf-8")
        except (MlflowException, OSError):
            return None


def _is_ours(description: str | None, tags: dict[str, str]) -> bool:
    return not description or hashlib.sha256(description.encode()).hexdigest() == tags.get(CARD_TAG)
