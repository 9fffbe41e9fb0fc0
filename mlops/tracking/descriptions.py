"""Descriptions of versions and models on MLflow's pages, and tags that go with them; a person may write them too."""

import hashlib
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from mlops.promotion.history import Entry, standing
from mlops.tracking.runs import NOTE
from mlops.tracking.versions import WEIGHTS_TAG, champion

VERDICT_TAG = "verdict"
"""Tag of a version: how it compares with the champion, in a few words."""
CARD_TAG = "card.sha256"
"""Tag of a version, a model and a run: sha256 of the description that we wrote; another one is a person's."""
ROLE_TAG = "role"
"""Tag of a version, and of its run: champion, former champion or refused."""
MODEL_CARD = "card/model.md"
"""Artifact of a version's run: the description of the registered model while that version is champion."""


def tag_version(client: MlflowClient, name: str, number: str, tags: dict[str, str]) -> None:
    """Write the tags of a version that differ from those it has."""
    present = client.get_model_version(name, number).tags
    for key, value in tags.items():
        if present.get(key) != value:
            client.set_model_version_tag(name, number, key, value)


def describe_version(client: MlflowClient, name: str, number: str, text: str) -> None:
    """Write the description of a version, unless a person did."""
    version = client.get_model_version(name, number)
    if _is_ours(version.description, version.tags) and version.description != text:
        client.set_model_version_tag(name, number, CARD_TAG, _sha256(text))
        client.update_model_version(name, number, text)


def describe_model(client: MlflowClient, name: str, text: str) -> None:
    """Write the description of a registered model, unless a person did."""
    model = client.get_registered_model(name)
    if _is_ours(model.description, model.tags) and model.description != text:
        client.set_registered_model_tag(name, CARD_TAG, _sha256(text))
        client.update_registered_model(name, text)


def describe_run(client: MlflowClient, run_id: str, text: str) -> None:
    """Write the description of a run, unless a person did; until then it is the doctor's sentence."""
    tags = client.get_run(run_id).data.tags
    note = tags.get(NOTE)
    if (note == tags.get("doctor.sentence") or _is_ours(note, tags)) and note != text:
        client.set_tag(run_id, CARD_TAG, _sha256(text))
        client.set_tag(run_id, NOTE, text)


def restate(client: MlflowClient, name: str, number: str, role: str, sentence: str) -> None:
    """Put what a version is now first in the descriptions of it and of its run; a deleted run is left alone."""
    version = client.get_model_version(name, number)
    if version.description:
        describe_version(client, name, number, _restated(version.description, sentence))
    with suppress(MlflowException):
        run_id = str(version.run_id)
        client.set_tag(run_id, ROLE_TAG, role)
        tags = client.get_run(run_id).data.tags
        if CARD_TAG in tags:
            describe_run(client, run_id, _restated(tags[NOTE], sentence))


def _restated(text: str, sentence: str) -> str:
    return "\n\n".join([sentence, *text.split("\n\n")[1:]])


def describe_champion(client: MlflowClient, name: str, entries: Sequence[Entry]) -> None:
    """Write the champion's card as the description of the registered model, if there is a champion."""
    number = champion(client, name)
    if number is not None:
        version = client.get_model_version(name, number)
        now = standing(version.tags[WEIGHTS_TAG], entries, name)
        text = _model_card(client, str(version.run_id)) or f"\n\nVersion {number} is champion."
        describe_model(client, name, _restated(text, now.sentence) if now else text.strip())


def _model_card(client: MlflowClient, run_id: str) -> str | None:
    """Return the card that `register` wrote into a run; None for a version that it did not make."""
    with TemporaryDirectory() as folder:
        try:
            return Path(client.download_artifacts(run_id, MODEL_CARD, folder)).read_text(encoding="utf-8")
        except (MlflowException, OSError):
            return None


def _is_ours(description: str | None, tags: dict[str, str]) -> bool:
    return not description or _sha256(description) == tags.get(CARD_TAG)


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
