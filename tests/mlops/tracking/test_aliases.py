import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from mlops.project.errors import UserError
from mlops.promotion.decision import judge
from mlops.promotion.history import Action, ModelId, replay
from mlops.promotion.ledger import LEDGER, locked_ledger
from mlops.tracking import aliases as module
from mlops.tracking.runs import connect
from tests.decisions import PASSPORT, RULES, add_version, found, who

Decide = Callable[[Action, str], None]


@pytest.fixture
def model(root: Path) -> str:
    """Return a name of a registered model for this test alone."""
    return root.name.replace("_", "-")


@pytest.fixture
def client(root: Path) -> MlflowClient:
    return connect()[0]


def decide(model: str, action: Action, name: str) -> None:
    """Write a decision into the ledger, and into nothing else, as one who crashes then."""
    hand = action in ("promoted by hand", "rolled back")
    evidence: dict[str, Any] = {"bounds": [{"holds": True}], "test": {"p_value": 0.0123456}}
    with locked_ledger() as ledger:
        ledger.append(action, model, who(name), f"why {name}", None if hand else evidence)


def sync_aliases(client: MlflowClient, model: str) -> list[str]:
    with locked_ledger() as ledger:
        return module.sync_aliases(client, model, ledger)


def aliases(client: MlflowClient, model: str) -> dict[str, str]:
    return {alias: str(number) for alias, number in client.get_registered_model(model).aliases.items()}


def test_aliases_and_tags_equal_the_ledger_and_a_second_sync_changes_nothing(client: MlflowClient, model: str) -> None:
    for name in "abx":
        add_version(client, model, who(name))
    for action, name in (("promoted", "a"), ("promoted", "b"), ("refused", "x")):
        decide(model, action, name)  # type: ignore[arg-type]  # they are actions
    client.set_registered_model_alias(model, "challenger", "3")  # as it was once done
    assert len(sync_aliases(client, model)) == 3
    assert aliases(client, model) == {"champion": "2", "previous-champion": "1"}
    tags = {number: client.get_model_version(model, str(number)).tags for number in (1, 2, 3)}
    assert [tags[number]["role"] for number in tags] == ["former champion", "champion", "refused"]
    assert (tags[3]["gate.decision"], tags[3]["gate.reason"], tags[3]["gate.p_value"]) == ("refused", "why x", "0.0123")
    assert sync_aliases(client, model) == []


def test_a_crash_between_ledger_and_alias_is_repaired(client: MlflowClient, model: str) -> None:
    for name in "ab":
        add_version(client, model, who(name))
    decide(model, "promoted", "a")
    sync_aliases(client, model)
    decide(model, "promoted", "b")
    moved = sync_aliases(client, model)
    assert [sentence.split()[0] for sentence in moved] == ["champion", "previous-champion"]
    assert aliases(client, model)["champion"] == "2"


def test_what_nobody_decided_is_taken_back(client: MlflowClient, model: str) -> None:
    for name in "ab":
        add_version(client, model, who(name))
    client.set_registered_model_alias(model, "champion", "2")
    client.set_model_version_tag(model, "2", "role", "champion")
    (moved,) = sync_aliases(client, model)
    assert ("champion" in moved, "version 2" in moved) == (True, True)
    assert aliases(client, model) == {}
    decide(model, "promoted", "a")
    sync_aliases(client, model)
    client.set_registered_model_alias(model, "champion", "2")
    client.set_registered_model_alias(model, "mine", "2")
    assert len(sync_aliases(client, model)) == 1
    assert aliases(client, model) == {"champion": "1", "mine": "2"}
    assert "role" not in client.get_model_version(model, "2").tags


def test_a_decision_of_another_clone_is_not_rolled_back(client: MlflowClient, model: str, root: Path) -> None:
    add_version(client, model, who("a"))
    add_version(client, model, who("b"))
    decide(model, "promoted", "a")
    sync_aliases(client, model)
    older = (root / LEDGER).read_bytes()
    decide(model, "promoted", "b")
    sync_aliases(client, model)
    theirs = (root / LEDGER).read_bytes()
    copy = root / ".checkpoints" / LEDGER
    for mine in (b"", older):
        (root / LEDGER).write_bytes(mine)
        copy.unlink()  # another clone has none of this one's
        with pytest.raises(UserError, match="git pull"):
            sync_aliases(client, model)
        assert aliases(client, model)["champion"] == "2"
    (root / LEDGER).write_bytes(older)
    copy.unlink()
    decide(model, "refused", "c")  # both clones decided
    with pytest.raises(UserError, match="git pull"):
        sync_aliases(client, model)
    (root / LEDGER).write_bytes(theirs)
    assert sync_aliases(client, model) == []


def test_a_lost_registry_is_filled_as_versions_come_back(client: MlflowClient, model: str) -> None:
    decide(model, "promoted", "a")
    decide(model, "promoted", "b")
    assert sync_aliases(client, model) == []
    add_version(client, model, who("a"))
    sync_aliases(client, model)
    assert aliases(client, model) == {"previous-champion": "1"}
    add_version(client, model, who("b", PASSPORT | {"device": "cuda"}))  # the same weights, scored otherwise
    sync_aliases(client, model)
    assert aliases(client, model) == {"previous-champion": "1", "champion": "2"}
    add_version(client, model, who("b"))
    sync_aliases(client, model)
    assert aliases(client, model) == {"previous-champion": "1", "champion": "3"}


def test_the_alias_follows_the_champion_to_its_newest_scores(client: MlflowClient, model: str) -> None:
    rules, other = replace(RULES, model_name=model), PASSPORT | {"device": "cuda"}
    for passport in (PASSPORT, other, other):
        add_version(client, model, who("a", passport))
        with locked_ledger() as ledger:
            judge(ledger, who("a", passport), found(2.5, passport), rules, "")
    assert len(ledger.entries) == 2
    sync_aliases(client, model)
    assert aliases(client, model) == {"champion": "3"}
    add_version(client, model, who("b", other))
    decide(model, "promoted by hand", "b")
    sync_aliases(client, model)
    assert aliases(client, model)["previous-champion"] == "3"
    assert sync_aliases(client, model) == []


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_the_ledger_replayed_from_empty_gives_the_aliases(client: MlflowClient, model: str, seed: int) -> None:
    """After any decisions, made by the gate or by hand, some cut off before MLflow knew."""
    dice, rules = random.Random(seed), replace(RULES, model_name=model)
    names: dict[int, str] = {}
    for step in range(25):
        with locked_ledger() as ledger:
            before = replay(ledger.entries, model)
            past = [*before.former, *([before.champion] if before.champion else [])]
            kind = dice.choice(["candidate", "candidate", "again", "promote", "rollback", "back to"])
            if kind == "candidate" or not past:
                name = f"{step}"
                names[add_version(client, model, who(name))] = name
                bad = {"fid_to_real": 3.0} if dice.random() < 0.3 else {}
                judge(ledger, who(name), found(3.0 - step / 20 + dice.random() / 2, scores=bad), rules, "")
            elif kind == "again":
                judge(ledger, past[-1], found(1.0), rules, "")
            elif kind == "promote":
                ledger.append("promoted by hand", model, who(dice.choice(list(names.values()))), "by hand")
            elif kind == "rollback" and before.previous:
                ledger.append("rolled back", model, before.previous, "by hand")
            elif before.former:
                ledger.append("rolled back", model, dice.choice(before.former), "by hand")
            if dice.random() < 0.7:
                module.sync_aliases(client, model, ledger)
            if dice.random() < 0.2 and names:
                client.set_registered_model_alias(model, "champion", str(dice.choice(list(names))))
    sync_aliases(client, model)
    with locked_ledger() as ledger:
        state = replay(ledger.entries, model)

    def number(identity: ModelId | None) -> str | None:
        return next((str(key) for key, name in names.items() if identity == who(name)), None)

    expected = {"champion": state.champion, "previous-champion": state.previous}
    assert aliases(client, model) == {alias: number(one) for alias, one in expected.items() if one}
    roles = {key: client.get_model_version(model, str(key)).tags["role"] for key in names}
    assert [str(key) for key, role in roles.items() if role == "champion"] == [number(state.champion)]
    assert {str(key) for key, role in roles.items() if role == "former champion"} == {*map(number, state.former)}


def test_a_ledger_of_before_with_a_reason_beyond_mlflow_s_bound_is_followed(
    client: MlflowClient, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_version(client, model, who("a"))
    monkeypatch.setattr("mlops.promotion.ledger.LONGEST_REASON", 10**6)
    with locked_ledger() as ledger:
        ledger.append("promoted by hand", model, who("a"), "x" * 100_001)
    sync_aliases(client, model)
    assert aliases(client, model) == {"champion": "1"}
    assert client.get_model_version(model, "1").tags["gate.reason"] == "x" * module.LONGEST_TAG
