from dataclasses import replace
from typing import Any

import pytest

from mlops.promotion.history import MAKE_CHAMPION, Action, Entry, ModelId, State, replay, version_tags
from tests.decisions import who

MODEL = "gan-a"
Step = tuple[Action, str] | tuple[Action, str, bool]


def decided(*steps: Step, model: str = MODEL) -> list[Entry]:
    """Return the entries of decisions: action, candidate and whether all bounds held."""
    entries: list[Entry] = []
    for action, name, *within in steps:
        before = replay(entries, model).champion
        after = who(name) if action in MAKE_CHAMPION else before
        hand = action in ("promoted by hand", "rolled back")
        evidence: dict[str, Any] = {"bounds": [{"holds": True}, {"holds": all(within)}], "test": None}
        place = len(entries) + 1, None, "2026-01-01T00:00:00+00:00", action, model
        entries.append(Entry(*place, who(name), before, after, f"why {name}", "ada", None if hand else evidence))
    return entries


def state(*steps: Any) -> State:
    return replay(decided(*steps), MODEL)


def names(*found: ModelId | None) -> list[str | None]:
    return [None if one is None else one.training.removeprefix("training-") for one in found]


A: Step = ("promoted", "a")
B: Step = ("promoted", "b")
C: Step = ("promoted", "c")
BACK_A: Step = ("rolled back", "a")
BACK_B: Step = ("rolled back", "b")
BACK_C: Step = ("rolled back", "c")


@pytest.mark.parametrize(
    ("steps", "champion", "previous", "former"),
    [
        ([], None, None, []),
        ([A], "a", None, []),
        ([A, B, C], "c", "b", ["b", "a"]),
        ([A, B, C, BACK_B], "b", "a", ["c", "a"]),
        ([A, B, C, BACK_B, BACK_A], "a", None, ["b", "c"]),
        ([A, B, C, BACK_A], "a", None, ["c", "b"]),
        ([A, B, C, BACK_B, ("promoted", "d")], "d", "b", ["b", "c", "a"]),
        ([A, B, C, BACK_B, BACK_C], "c", "b", ["b", "a"]),  # forward again to one who was rolled back from
        ([A, B, ("promoted by hand", "a")], "a", "b", ["b"]),
        ([A, B, ("promoted by hand", "a"), BACK_B], "b", "a", ["a"]),
    ],
)
def test_a_rollback_returns_to_the_champion_before(
    steps: list[Any], champion: str | None, previous: str | None, former: list[str]
) -> None:
    found = state(*steps)
    assert names(found.champion, found.previous) == [champion, previous]
    assert names(*found.former) == former


@pytest.mark.parametrize(
    ("steps", "challenger"),
    [
        ([A], None),
        ([A, ("refused", "x", False)], None),
        ([A, ("refused", "x"), ("refused", "y"), ("refused", "z", False)], "y"),
        ([A, ("refused", "x"), ("refused", "y"), ("refused", "y", False)], "x"),
        ([A, ("refused", "x"), ("promoted by hand", "x")], None),
        ([A, ("refused", "x"), ("promoted by hand", "x"), BACK_A], None),
        ([A, ("refused", "x"), B], "x"),
        ([A, ("scored again", "a")], None),
    ],
)
def test_the_challenger_is_the_newest_within_the_bounds_that_was_never_champion(
    steps: list[Any], challenger: str | None
) -> None:
    assert names(state(*steps).challenger) == [challenger]


def test_a_champion_that_was_scored_again_has_its_new_passport_and_a_rollback_returns_to_that() -> None:
    entries = decided(A, ("scored again", "a"), B)
    new = ModelId(who("a").weights, "another passport", "another key")
    entries[1] = replace(entries[1], candidate=new)
    assert replay(entries[:2], MODEL) == State(new, None, None, ())
    assert replay(entries, MODEL) == State(who("b"), new, None, (new,))
    back = replace(entries[2], action="rolled back", candidate=new)
    assert replay([*entries, back], MODEL) == State(new, None, None, (who("b"),))
    stale = replace(entries[1], candidate=replace(new, passport="of a former champion"))
    assert replay([*entries, stale], MODEL) == replay(entries, MODEL)


def test_decisions_on_another_model_change_nothing() -> None:
    assert replay(decided(A, B), "gan-b") == State(None, None, None, ())


def test_a_version_says_its_role_and_the_last_decision_on_it() -> None:
    entries = decided(A, B, ("refused", "x"), ("refused", "y"), ("refused", "z", False), BACK_A)

    def tags(name: str) -> dict[str, str]:
        return version_tags(who(name).weights, who(name).passport, entries, MODEL)

    roles = {name: tags(name)["role"] for name in "abxyz"}
    assert roles == {"a": "champion", "b": "former champion", "x": "refused", "y": "challenger", "z": "refused"}
    assert (tags("a")["gate.decision"], tags("a")["gate.reason"]) == ("rolled back", "why a")
    assert tags("x")["gate.decision"] == "refused"
    assert tags("unknown") == {}
