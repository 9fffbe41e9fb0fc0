"""Aliases and tags in MLflow's registry, kept equal to the ledger."""

from mlflow import MlflowClient

from mlops.project.errors import UserError
from mlops.promotion.history import State, replay, standing, version_tags
from mlops.promotion.ledger import LEDGER, Ledger
from mlops.tracking.descriptions import restate
from mlops.tracking.versions import CHAMPION, PASSPORT_TAG, WEIGHTS_TAG, number_of, versions

PREVIOUS = "previous-champion"
RETIRED = "challenger"
"""An alias of before, of versions that the gate had refused; it is taken away."""
HEAD_TAG = "ledger.head"
"""Of the registered model: sha256 of the ledger's last line about it when MLflow was last synced."""
SYNCED = ("role", "gate.decision", "gate.reason", "gate.p_value")
"""Tags of a version that come from the ledger alone."""
LONGEST_TAG = 5_000
"""Characters; MLflow's own bound is 100,000. A ledger of before may have longer reasons, which are cut here alone."""


def sync_aliases(client: MlflowClient, name: str, ledger: Ledger) -> list[str]:
    """Make MLflow's aliases and tags of a registered model equal to the ledger, whatever they were.

    It returns a sentence for each alias that was moved. If MLflow has no such model yet, nothing is done; if it was
    synced with a decision that this ledger lacks, that is a UserError.
    """
    models = client.search_registered_models(f"name = '{name}'")
    if not models:
        return []
    _sync_head(client, name, models[0].tags.get(HEAD_TAG), ledger)
    state, tags = replay(ledger.entries, name), versions(client, name)
    present = {alias: str(number) for alias, number in models[0].aliases.items()}
    moved = _move_aliases(client, name, present, state, tags)
    for number, old in tags.items():
        told = version_tags(old.get(WEIGHTS_TAG), old.get(PASSPORT_TAG), ledger.entries, name)
        new = {tag: value[:LONGEST_TAG] for tag, value in told.items()}
        for tag in SYNCED:
            if tag in new and new[tag] != old.get(tag):
                client.set_model_version_tag(name, number, tag, new[tag])
            elif tag in old and tag not in new:
                client.delete_model_version_tag(name, number, tag)
        if (
            (role := new.get("role"))
            and role != old.get("role")
            and (now := standing(old[WEIGHTS_TAG], ledger.entries, name))
        ):
            restate(client, name, number, role, now.sentence)
    return moved


def _sync_head(client: MlflowClient, name: str, synced: str | None, ledger: Ledger) -> None:
    """Record the ledger's last line, before anything else: another clone then sees a decision that is under way."""
    if synced is not None and not ledger.knows(synced):
        raise UserError(
            f"MLflow has a decision about {name} that {ledger.path} lacks (its line has sha256 {synced[:12]}...): it "
            f"was made in another clone, or {LEDGER} was put back to an older state. Bring it here (git pull; "
            f"git log --all {LEDGER}) and run again; if it is lost for good, delete the tag {HEAD_TAG} of the "
            "registered model in MLflow: from then on this ledger counts"
        )
    head = ledger.head(name)
    if head is not None and head != synced:
        client.set_registered_model_tag(name, HEAD_TAG, head)


def _move_aliases(
    client: MlflowClient, name: str, present: dict[str, str], state: State, tags: dict[str, dict[str, str]]
) -> list[str]:
    wanted, moved = {CHAMPION: state.champion, RETIRED: None, PREVIOUS: state.previous}, []
    for alias, model_id in wanted.items():
        new, old = number_of(model_id, tags), present.get(alias)
        if new == old:
            continue
        if new is None:
            client.delete_registered_model_alias(name, alias)
        else:
            client.set_registered_model_alias(name, alias, new)
        moved.append(f"{alias} of {name} is {_shown(new)}, as in {LEDGER}; in MLflow it was {_shown(old)}")
    return moved


def _shown(number: str | None) -> str:
    return "no version" if number is None else f"version {number}"
