"""The door through which MLflow's registry learns what the ledger says: aliases, and tags of versions."""

from mlflow import MlflowClient

from mlops.project.errors import UserError
from mlops.promotion.history import State, replay, version_tags
from mlops.promotion.ledger import LEDGER, Ledger
from mlops.tracking.versions import CHAMPION, PASSPORT_TAG, WEIGHTS_TAG, number_of, versions

CHALLENGER, PREVIOUS = "challenger", "previous-champion"
HEAD_TAG = "ledger.head"
"""Of the registered model: sha256 of the last line about it that MLflow has seen."""
SYNCED = ("role", "gate.decision", "gate.reason", "gate.p_value")
"""Tags of a version that come from the ledger alone."""


def sync_aliases(client: MlflowClient, name: str, ledger: Ledger) -> list[str]:
    """Make a registered model say what the ledger says, whatever it said before; twice changes nothing.

    Args:
        client: of the registry.
        name: of the registered model; where MLflow has none yet, nothing is done.
        ledger: held by this process.

    Returns:
        A sentence for each alias that was moved.

    Raises:
        UserError: MLflow has seen a decision that this ledger lacks.
    """
    models = client.search_registered_models(f"name = '{name}'")
    if not models:
        return []
    _mirror_head(client, name, models[0].tags.get(HEAD_TAG), ledger)
    state, found = replay(ledger.entries, name), versions(client, name)
    standing = {alias: str(number) for alias, number in models[0].aliases.items()}
    moved = _mirror_aliases(client, name, standing, state, found)
    for number, tags in found.items():
        wanted = version_tags(tags.get(WEIGHTS_TAG), tags.get(PASSPORT_TAG), ledger.entries, name)
        for tag in SYNCED:
            if tag in wanted and wanted[tag] != tags.get(tag):
                client.set_model_version_tag(name, number, tag, wanted[tag])
            elif tag in tags and tag not in wanted:
                client.delete_model_version_tag(name, number, tag)
    return moved


def _mirror_head(client: MlflowClient, name: str, seen: str | None, ledger: Ledger) -> None:
    """Note the ledger's last line; that comes before all else, so that others see a decision which is not done yet."""
    if seen is not None and not ledger.knows(seen):
        raise UserError(
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
