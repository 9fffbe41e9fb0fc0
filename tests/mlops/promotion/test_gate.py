from dataclasses import asdict, replace
from typing import Any

import pytest

from mlops.project.errors import UserError
from mlops.promotion.gate import bounds, decide
from mlops.scoring.evaluation import compare
from mlops.scoring.passport import PassportError
from tests.decisions import PASSPORT, RULES, changed, found, leaves


@pytest.mark.parametrize("field", leaves(PASSPORT))
def test_a_change_of_any_field_of_the_passport_refuses_and_names_it(field: str) -> None:
    other = changed(PASSPORT, field)
    champion, better = found(2.5, name="the champion"), found(1.0, other)
    with pytest.raises(PassportError, match=rf"(?m)^  {field}[.:]"):
        compare(champion, better, "fid", noise="sampling", rate=0.05)
    decision = decide(better, champion, RULES)
    assert (decision.action, decision.comparison) == ("refused", None)
    listed = decision.reason.split("its value first): ")[1].split(". Score")[0].split("; ")
    assert [line.split(": ")[0].removesuffix(".samples") for line in listed] == [field]


@pytest.mark.parametrize("section", PASSPORT)
def test_a_field_that_one_passport_lacks_refuses_and_is_named(section: str) -> None:
    other = {name: value for name, value in PASSPORT.items() if name != section}
    if section != "extractor":  # without it no score has a name
        assert section in decide(found(1.0, other), found(2.5), RULES).reason
    with pytest.raises(PassportError, match=rf"(?m)^  {section}"):
        compare(found(2.5), found(1.0, other), "fid", noise="sampling", rate=0.05)


def test_all_fields_that_differ_are_listed() -> None:
    other = changed(changed(changed(PASSPORT, "extractor.sha256"), "settings.banks"), "resizer")
    reason = decide(found(1.0, other), found(2.5, name="the old one"), RULES).reason
    for field in ("extractor.sha256: abab", "settings.banks: 6 and 7", "resizer: none: 8 pixels", "the old one"):
        assert field in reason


@pytest.mark.parametrize(
    ("scores", "broken"),
    [
        ({}, []),
        ({"fid_to_real": 2.5, "fid_to_noise": 0.03, "near_copies": 0.3}, []),
        ({"fid_to_real": 2.51}, ["max_fid_ratio_to_real"]),
        ({"fid_to_noise": 0.0301}, ["max_fid_ratio_to_noise"]),
        ({"near_copies": 0.301}, ["max_excess_near_copies"]),
        ({"near_copies": 0.99, "near_copies_of_real": 0.95}, []),
        ({"near_copies": 0.0, "near_copies_of_real": 0.95}, []),
        ({"fid_to_real": 3.0, "fid_to_noise": 1.0}, ["max_fid_ratio_to_real", "max_fid_ratio_to_noise"]),
    ],
)
@pytest.mark.parametrize("champion", [None, found(2.9)])
def test_every_bound_must_hold(scores: dict[str, float], broken: list[str], champion: Any) -> None:
    decision = decide(found(1.0, scores=scores), champion, RULES)
    assert [bound.name for bound in decision.bounds if not bound.holds] == broken
    assert decision.action == ("refused" if broken else "promoted")
    assert all(f"register.{name}" in decision.reason for name in broken)


def test_a_bound_says_value_and_limit() -> None:
    last = bounds(found(1.0), RULES)[-1]
    assert (last.name, last.limit) == ("max_excess_near_copies", 0.1)
    assert last.value == pytest.approx(0.05)


@pytest.mark.parametrize(
    ("fid", "action", "words"),
    [
        (2.4, "promoted", "better than the champion: fid_digits 2.397 (2.392 to 2.401) against 2.495"),
        (2.5, "refused", "not better than the champion by more than luck"),
        (2.6, "refused", "worse than the champion"),
    ],
)
def test_only_who_is_better_by_more_than_luck_is_promoted(fid: float, action: str, words: str) -> None:
    champion = found(2.5, name="the champion")
    candidate = found(fid) if fid != 2.5 else replace(champion, name="the candidate")
    decision = decide(candidate, champion, RULES)
    assert decision.action == action
    assert words in decision.reason
    test = decision.comparison
    assert test is not None
    assert (test.metric, test.noise, test.rate) == ("fid_digits", "sampling", 0.05)
    assert (test.p_value < 0.05) is (action == "promoted")
    assert test.candidate.low < test.candidate.mean < test.candidate.high
    assert test.candidate.mean == pytest.approx(fid, abs=0.03)
    assert test.champion.mean == pytest.approx(2.5, abs=0.03)


def test_the_rate_is_that_of_the_rules() -> None:
    champion = found(2.5)
    strict, lax = (replace(RULES, false_promotion_rate=rate) for rate in (1e-12, 0.49))
    assert [decide(found(2.49), champion, rules).action for rules in (strict, lax)] == ["refused", "promoted"]


def test_the_noise_of_retraining_needs_trainings_on_both_sides() -> None:
    rules = replace(RULES, noise="seeds")
    again = decide(found(1.0, trainings=4), found(2.5, trainings=4), rules)
    assert (again.action, again.comparison and again.comparison.noise) == ("promoted", "seeds")
    once = decide(found(1.0), found(2.5, trainings=4), rules)
    assert once.action == "refused"
    assert "the candidate was trained once" in once.reason
    assert decide(found(1.0), None, rules).action == "promoted"


def test_the_first_needs_only_the_bounds() -> None:
    decision = decide(found(9.0), None, RULES)
    assert (decision.action, decision.comparison) == ("promoted", None)
    assert asdict(decision)["reason"] == "all bounds hold and there was no champion"


def test_a_score_that_is_missing_is_named() -> None:
    candidate = found(1.0)
    del candidate.scores["near_copies_digits_of_real"]
    with pytest.raises(UserError, match="the candidate has no score near_copies_digits_of_real"):
        decide(candidate, None, RULES)
