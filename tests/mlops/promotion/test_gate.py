from dataclasses import replace
from typing import Any

import pytest

from mlops.project.errors import UserError
from mlops.promotion.gate import bounds
from mlops.scoring.comparison import compare, explanation, sentence
from mlops.scoring.evaluation import Skill
from mlops.scoring.passport import PassportError
from tests.decisions import PASSPORT, RULES, changed, decision, found, leaves


@pytest.mark.parametrize("field", leaves(PASSPORT))
def test_a_change_of_any_field_of_the_passport_refuses_and_names_it(field: str) -> None:
    other = changed(PASSPORT, field)
    champion, better = found(2.5, name="the champion"), found(1.0, other)
    with pytest.raises(PassportError, match=rf"(?m)^  {field}[.:]"):
        compare(champion, better, "fid", "sampling", 0.05)
    refused = decision(better, champion)
    assert (refused.action, refused.comparison) == ("refused", None)
    listed = refused.reason.split("its value first): ")[1].split(". Score")[0].split("; ")
    assert [line.split(": ")[0].removesuffix(".samples") for line in listed] == [field]


@pytest.mark.parametrize("section", PASSPORT)
def test_a_field_that_one_passport_lacks_refuses_and_is_named(section: str) -> None:
    other = {name: value for name, value in PASSPORT.items() if name != section}
    if section != "extractor":  # without it no score has a name
        assert section in decision(found(1.0, other), found(2.5)).reason
    with pytest.raises(PassportError, match=rf"(?m)^  {section}"):
        compare(found(2.5), found(1.0, other), "fid", "sampling", 0.05)


def test_all_fields_that_differ_are_listed() -> None:
    other = changed(changed(changed(PASSPORT, "extractor.sha256"), "settings.seed"), "resizer")
    reason = decision(found(1.0, other), found(2.5, name="the old one")).reason
    for field in ("extractor.sha256: abab", "settings.seed: 0 and 1", "resizer: none: 8 pixels", "the old one"):
        assert field in reason


@pytest.mark.parametrize(
    ("scores", "broken"),
    [
        ({}, []),
        ({"fid_to_trivial": 0.15 - 1e-9, "fid_to_noise": 0.03, "near_copies": 0.3}, []),
        ({"fid_to_trivial": 0.151}, ["max_fid_to_trivial"]),
        ({"fid_to_noise": 0.0301}, ["max_fid_ratio_to_noise"]),
        ({"near_copies": 0.301}, ["max_excess_near_copies"]),
        ({"near_copies": 0.99, "near_copies_of_real": 0.95}, []),
        ({"near_copies": 0.0, "near_copies_of_real": 0.95}, []),
        ({"fid_to_trivial": 0.2, "fid_to_noise": 1.0}, ["max_fid_to_trivial", "max_fid_ratio_to_noise"]),
    ],
)
@pytest.mark.parametrize("champion", [None, found(2.9)])
def test_every_bound_must_hold(scores: dict[str, float], broken: list[str], champion: Any) -> None:
    decided = decision(found(1.0, scores=scores), champion)
    assert [bound.name for bound in decided.bounds if not bound.holds] == broken
    assert decided.action == ("refused" if broken else "promoted")
    assert all(f"register.{name}" in decided.reason for name in broken)


def test_a_bound_has_value_and_limit() -> None:
    first, _, last = bounds(found(1.5), RULES)
    assert (last.name, last.limit) == ("max_excess_near_copies", 0.1)
    assert last.value == pytest.approx(0.05)
    assert first.name == "max_fid_to_trivial"
    assert first.value == pytest.approx(1.5, abs=0.02)
    real, trivial = first.value / 1.5, first.value / 1.5 + (first.value - first.value / 1.5) / 0.1
    assert first.limit == pytest.approx(real + 0.15 * (trivial - real))


def test_real_images_near_zero_change_no_bound() -> None:
    """A ratio to real images was above every limit for data whose own distance is near 0."""
    candidate = found(1.0)
    fid = replace(candidate.scores["fid"], real=1e-6, trivial=20.0)
    assert decision(replace(candidate, scores=candidate.scores | {"fid": fid}), None).action == "promoted"


@pytest.mark.parametrize(
    ("accuracy", "majority", "weak"),
    [
        (0.39, 0.1, True),
        (0.549, 0.1, True),
        (0.551, 0.1, False),
        (0.9, 0.81, True),
        (0.9, 0.79, False),
        (1.0, 1.0, True),
    ],
)
def test_scores_of_a_weak_extractor_promote_nothing(accuracy: float, majority: float, weak: bool) -> None:
    skill = Skill(accuracy, majority)
    decided = decision(replace(found(1.0), skill=skill), None)
    assert (skill.weak, decided.action) == (weak, "refused" if weak else "promoted")
    assert [bound.name for bound in decided.bounds if not bound.holds] == (["extractor"] if weak else [])
    assert all((word in decided.reason) is weak for word in ("extractor.epochs", "efficientnet-lite0"))


def test_another_number_of_banks_is_comparable() -> None:
    fewer, more = found(2.5, banks_each=3), found(2.4, banks_each=12)
    for champion, candidate, action in ((fewer, more, "promoted"), (more, fewer, "refused")):
        decided = decision(candidate, champion)
        assert decided.comparison is not None
        assert decided.action == action
        assert "over 3 or 12 banks of z" in explanation([decided.comparison])


def test_images_of_another_kind_are_given_the_remedy() -> None:
    other = changed(PASSPORT, "reference.dvc_md5")
    assert "register.model_name" in decision(found(1.0, other), found(2.5)).reason
    assert "register.model_name" not in decision(found(1.0, changed(PASSPORT, "device")), found(2.5)).reason


@pytest.mark.parametrize(
    ("fid", "action", "verdict"),
    [(2.4, "promoted", "better"), (2.5, "refused", "cannot tell"), (2.6, "refused", "worse")],
)
def test_only_what_is_significantly_better_is_promoted(fid: float, action: str, verdict: str) -> None:
    champion = found(2.5, name="the champion")
    candidate = found(fid) if fid != 2.5 else replace(champion, name="the candidate")
    decided = decision(candidate, champion)
    test = decided.comparison
    assert test is not None
    assert (decided.action, test.outcome.verdict) == (action, verdict)
    assert (test.metric, test.noise, test.rate) == ("fid", "sampling", 0.05)
    assert (test.outcome.p_value < 0.05) is (action == "promoted")
    assert (test.first, test.other) == (champion, candidate)
    assert decided.reason == sentence(test)


def test_the_rate_is_that_of_the_rules() -> None:
    strict, lax = (replace(RULES, false_promotion_rate=rate) for rate in (1e-12, 0.49))
    assert [decision(found(2.49), found(2.5), rules).action for rules in (strict, lax)] == ["refused", "promoted"]


def test_seed_to_seed_variance_needs_trainings_on_both_sides() -> None:
    rules = replace(RULES, noise="seeds")
    again = decision(found(1.0, trainings=4), found(2.5, trainings=4), rules)
    assert (again.action, again.comparison and again.comparison.noise) == ("promoted", "seeds")
    once = decision(found(1.0), found(2.5, trainings=4), rules)
    assert (once.action, once.comparison) == ("refused", None)
    assert "replicate.seeds" in once.reason
    assert decision(found(1.0), None, rules).action == "promoted"


def test_the_first_needs_only_the_bounds() -> None:
    decided = decision(found(9.0), None)
    assert (decided.action, decided.comparison) == ("promoted", None)


@pytest.mark.parametrize("metric", ["fid", "near_copies"])
def test_a_score_that_is_missing_is_named(metric: str) -> None:
    candidate = found(1.0)
    del candidate.scores[metric]
    with pytest.raises(UserError, match=f"{metric}_digits"):
        decision(candidate, None)


def test_scores_of_before_have_no_trivial_generator_to_be_judged_by() -> None:
    candidate = found(1.0)
    fid = replace(candidate.scores["fid"], trivial=None)
    with pytest.raises(UserError, match="dvc repro evaluate"):
        decision(replace(candidate, scores=candidate.scores | {"fid": fid}), None)
