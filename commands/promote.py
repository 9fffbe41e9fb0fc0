"""`python -m commands.promote promote VERSION` or `rollback [VERSION]`, with a reason: name the champion by hand.

Both write to the ledger first and then move MLflow's aliases. Neither loads torch or a model.
"""

from typing import Literal

import click

from mlops.project import params
from mlops.project.errors import UserError, command_line
from mlops.promotion.history import MAKE_CHAMPION, ModelId, State, replay
from mlops.promotion.ledger import LEDGER, Ledger, locked_ledger
from mlops.promotion.naming import model_name
from mlops.tracking import versions as registry
from mlops.tracking.aliases import sync_aliases
from mlops.tracking.descriptions import describe_champion
from mlops.tracking.runs import connect
from mlops.tracking.store import store_errors

ByHand = Literal["promoted by hand", "rolled back"]
EXAMPLES = """\b
Examples:
  python -m commands.promote promote 7 --reason "people prefer its images"
  python -m commands.promote rollback --reason "artefacts"
  python -m commands.promote rollback 3 --reason "the best of all"
"""


@store_errors()
def set_champion(action: ByHand, model: str | None, reason: str) -> None:
    """Make a version (see `find_version`) champion because a person decided so; the ledger keeps the reason.

    A promotion takes any version, a rollback only one that was champion; without a version it goes back to the champion
    before the present one, and once more to the one before. It is a UserError if there is no reason, no such version or
    no earlier champion; if the version is champion already or, for a rollback, never was; if MLflow has a decision that
    this ledger lacks; or if MLflow does not answer.
    """
    reason = reason.strip()
    if not reason or not reason.isprintable():
        raise UserError('a decision by hand needs a reason of one line, --reason "..."; it stays in the ledger')
    values = params.load_as(params.Params, params.PARAMS)
    name = model_name(values.register, values.data)
    client, _ = connect()
    with locked_ledger() as ledger:
        version = registry.find_version(client, name, model) if model is not None else None
        name = version.name if version else name
        synced = registry.champion(client, name)
        for moved in sync_aliases(client, name, ledger):
            print(moved)
        state, tags = replay(ledger.entries, name), registry.versions(client, name)
        if version is None:
            candidate = _previous(name, state)
            _refuse_second_step(name, ledger, state, synced, tags)
        else:
            candidate = registry.model_id(version)
            _check(action, f"version {version.version} of {name}", candidate, state)
        new, old = (registry.number_of(model_id, tags) for model_id in (candidate, state.champion))
        if new is None:
            raise UserError(
                f"the champion before the present one (weights {candidate.weights[:12]}) is no version of {name} in "
                "this MLflow; set MLFLOW_TRACKING_URI to the server that has it, or name another: rollback VERSION"
            )
        ledger.append(action, name, candidate, reason)
        sync_aliases(client, name, ledger)
        describe_champion(client, name, ledger.entries)
    print(f"{name}: version {new} is champion, {action}: {reason} (before: {f'version {old}' if old else 'none'})")


def _previous(name: str, state: State) -> ModelId:
    if state.previous is None:
        raise UserError(
            f"{LEDGER} names no champion of {name} before the present one; return to a later champion with rollback "
            "VERSION, or to any version with promote VERSION"
        )
    return state.previous


def _refuse_second_step(
    name: str, ledger: Ledger, state: State, synced: str | None, tags: dict[str, dict[str, str]]
) -> None:
    """Stop if a crash had cut off the last decision: a person who repeats a rollback does not want two."""
    last = [entry for entry in ledger.entries if entry.model == name and entry.action in MAKE_CHAMPION][-1]
    before, after = (registry.number_of(model_id, tags) for model_id in (last.champion_before, last.champion_after))
    if before == synced and registry.number_of(state.champion, tags) == after != before:
        raise UserError(
            f"decision {last.number} ({last.action}) had not reached MLflow and now has: version {after} of {name} is "
            "champion; run again to go back further"
        )


def _check(action: ByHand, title: str, candidate: ModelId, state: State) -> None:
    if state.champion is not None and candidate.weights == state.champion.weights:
        raise UserError(f"{title} holds the champion's weights already, so nothing was changed; name another version")
    if action == "rolled back" and candidate.weights not in {past.weights for past in state.former}:
        raise UserError(f"{title} never was champion, so rollback refuses it; make it champion with promote VERSION")


@click.group(epilog=EXAMPLES)
def main() -> None:
    """Name the champion by hand; the reason stays in the ledger."""


with_reason = click.option("--reason", required=True, help="One line; it stays in the ledger.")


@main.command()
@click.argument("version")
@with_reason
@command_line()
def promote(version: str, reason: str) -> None:
    """Make VERSION champion. It is a number, an alias or models:/NAME@ALIAS, whatever the gate decided."""
    set_champion("promoted by hand", version, reason)


@main.command()
@click.argument("version", required=False)
@with_reason
@command_line()
def rollback(version: str | None, reason: str) -> None:
    """Return to an earlier champion. Without VERSION, that is the champion before the present one."""
    set_champion("rolled back", version, reason)


if __name__ == "__main__":
    main()
