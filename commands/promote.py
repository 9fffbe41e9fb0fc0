"""Promotion and rollback by hand: `python -m commands.promote promote VERSION` or `rollback [VERSION]`, with a reason.

Both write to the ledger first and then move MLflow's aliases. Neither loads torch or a model.
"""

import sys
from argparse import ArgumentParser
from typing import Literal

from mlops.project import params
from mlops.project.errors import UserError
from mlops.promotion.history import MAKE_CHAMPION, ModelId, State, replay
from mlops.promotion.ledger import LEDGER, Ledger, locked_ledger
from mlops.tracking import descriptions as pages
from mlops.tracking import versions as registry
from mlops.tracking.aliases import sync_aliases
from mlops.tracking.runs import connect

ByHand = Literal["promoted by hand", "rolled back"]


def set_champion(action: ByHand, number: int | None, reason: str) -> None:
    """Make a version champion because a person says so; the ledger keeps the reason.

    Args:
        action: a promotion takes any version, a rollback only one that was champion.
        number: of the version; None rolls back to the champion before the present one, and once more to the one before.
        reason: one line, not empty.

    Raises:
        UserError: there is no reason, no such version or nobody to return to; the version is champion already or, for
            a rollback, never was; MLflow has seen a decision that this ledger lacks; or MLflow does not answer.
    """
    reason = reason.strip()
    if not reason or not reason.isprintable():
        raise UserError('a decision by hand needs a reason of one line, --reason "..."; it stays in the ledger')
    name = params.load_as(params.Params, params.PARAMS).register.model_name
    client, _ = connect()
    with locked_ledger() as ledger:
        stood = registry.champion(client, name)
        for moved in sync_aliases(client, name, ledger):
            print(moved)
        state, found = replay(ledger.entries, name), registry.versions(client, name)
        if number is None:
            who = _before(name, state)
            _refuse_second_step(name, ledger, state, stood, found)
        else:
            who = registry.identity(name, number, found)
        _check(action, f"version {number} of {name}", who, state)
        new, old = (registry.number_of(one, found) for one in (who, state.champion))
        if new is None:
            raise UserError(
                f"the champion before the present one (weights {who.weights[:12]}) is no version of {name} in this "
                "MLflow; set MLFLOW_TRACKING_URI to the server that has it, or name another: rollback VERSION"
            )
        ledger.append(action, name, who, reason)
        sync_aliases(client, name, ledger)
        pages.describe_champion(client, name)
    print(f"{name}: version {new} is champion, {action}: {reason} (before: {f'version {old}' if old else 'none'})")


def _before(name: str, state: State) -> ModelId:
    if state.previous is None:
        raise UserError(
            f"{LEDGER} names no champion of {name} before the present one; a version that was champion later comes "
            "back with rollback VERSION, any other with promote VERSION"
        )
    return state.previous


def _refuse_second_step(
    name: str, ledger: Ledger, state: State, stood: str | None, found: dict[str, dict[str, str]]
) -> None:
    """Stop where a crash had cut off the last decision: whoever types a rollback again does not want two."""
    last = [entry for entry in ledger.entries if entry.model == name and entry.action in MAKE_CHAMPION][-1]
    numbers = [registry.number_of(who, found) for who in (last.champion_before, state.champion)]
    if numbers == [stood, registry.number_of(last.champion_after, found)] and numbers[0] != numbers[1]:
        raise UserError(
            f"decision {last.number} ({last.action}) had not reached MLflow and now has: version {numbers[1]} of "
            f"{name} is champion; run again to go back further"
        )


def _check(action: ByHand, what: str, who: ModelId, state: State) -> None:
    if state.champion is not None and who.weights == state.champion.weights:
        raise UserError(f"{what} holds the champion's weights already; nothing was changed")
    if action == "rolled back" and who.weights not in {past.weights for past in state.former}:
        raise UserError(f"{what} never was champion, so nothing can be rolled back to it; promote VERSION makes it one")


def main(arguments: list[str] | None = None) -> None:
    """Run one command."""
    parser = ArgumentParser(prog="python -m commands.promote", description="Name the champion by hand.")
    commands = parser.add_subparsers(dest="command", required=True)
    promote = commands.add_parser("promote", help="make a version champion, whatever the gate said")
    promote.add_argument("version", type=int, help="number of the version in MLflow")
    rollback = commands.add_parser("rollback", help="return to an earlier champion")
    rollback.add_argument("version", type=int, nargs="?", help="default: the champion before the present one")
    for command in (promote, rollback):
        command.add_argument("--reason", required=True, help="one line; it stays in the ledger")
    given = parser.parse_args(arguments)
    set_champion("promoted by hand" if given.command == "promote" else "rolled back", given.version, given.reason)


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        sys.exit(f"error: {error}")
