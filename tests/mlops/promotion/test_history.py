from dataclasses import replace
from typing import Any

import pytest

from mlops.promotion.history import MAKE_CHAMPION, Action, Entry, ModelId, State, replay, standing, version_tags
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


def test_a_champion_that_was_scored_again_has_its_new_passport_and_a_rollback_returns_to_that() -> None:
    entries = decided(A, ("scored again", "a"), B)
    new = ModelId(who("a").weights, "another passport", "another key")
    entries[1] = replace(entries[1], candidate=new)
    assert replay(entries[:2], MODEL) == State(new, None, ())
    assert replay(entries, MODEL) == State(who("b"), new, (new,))
    back = replace(entries[2], action="rolled back", candidate=new)
    assert replay([*entries, back], MODEL) == State(new, None, (who("b"),))
    stale = replace(entries[1], candidate=replace(new, passport="of a former champion"))
    assert replay([*entries, stale], MODEL) == replay(entries, MODEL)


def test_decisions_on_another_model_change_nothing() -> None:
    assert replay(decided(A, B), "gan-b") == State(None, None, ())


def test_a_version_says_its_role_and_the_last_decision_on_it() -> None:
    entries = decided(A, B, ("refused", "x"), ("refused", "y"), ("refused", "z", False), BACK_A)

    def tags(name: str) -> dict[str, str]:
        return version_tags(who(name).weights, who(name).passport, entries, MODEL)

    roles = {name: tags(name)["role"] for name in "abxyz"}
    assert roles == {"a": "champion", "b": "former champion", "x": "refused", "y": "refused", "z": "refused"}
    assert (tags("a")["gate.decision"], tags("a")["gate.reason"]) == ("rolled back", "why a")
    assert tags("x")["gate.decision"] == "refused"
    assert tags("unknown") == {}


@pytest.mark.parametrize(
    ("steps", "name", "expected"),
    [
        ([A], "b", None),
        ([("refused", "x")], "x", "Refused, because why x."),
        ([A, ("refused", "a")], "a", "Champion since 2026-01-01 00:00 UTC, promoted: why a."),
        ([A, B], "a", "Former champion, until 2026-01-01 00:01 UTC: another version was promoted. why b."),
        ([A, B, BACK_A], "a", "Champion since 2026-01-01 00:02 UTC, rolled back: why a."),
        (
            [A, B, BACK_A],
            "b",
            "Former champion, until 2026-01-01 00:02 UTC: another version was rolled back. why a.",
        ),
        ([A, ("scored again", "a")], "a", "Champion since 2026-01-01 00:00 UTC, promoted: why a."),
        (
            [A, ("refused", "x"), ("promoted by hand", "x")],
            "x",
            "Champion since 2026-01-01 00:02 UTC, promoted by hand: why x.",
        ),
    ],
)
def test_a_standing_is_what_a_version_is_since_when_and_why(steps: list[Any], name: str, expected: str | None) -> None:
    entries = [replace(entry, time=f"2026-01-01T00:{place:02}:00+00:00") for place, entry in enumerate(decided(*steps))]
    now = standing(who(name).weights, entries, MODEL)
    assert (now and now.sentence) == expected
    assert standing(who(name).weights, entries, "gan-b") is None
