"""The gate: absolute bounds, and a statistical test against the champion."""

from dataclasses import dataclass
from typing import Literal

from mlops.project.errors import UserError
from mlops.project.params import RegisterConfig
from mlops.promotion.history import ModelId
from mlops.scoring.comparison import Comparison, compare, sentence
from mlops.scoring.evaluation import Evaluation, Score, Skill
from mlops.scoring.passport import PassportError, differences


@dataclass(frozen=True)
class Bound:
    """A number that may be at most its limit; `name` is the key in the section `register` that sets it, or `extractor`.

    `meaning` is what the limit is made of and, if a person can do something about it, what.
    """

    name: str
    score: str
    value: float
    limit: float
    holds: bool
    meaning: str = ""


@dataclass(frozen=True)
class Challenge:
    """A champion, and how a candidate compares with it or, if it cannot be compared, the reason."""

    champion: ModelId
    comparison: Comparison | None
    reason: str = ""


@dataclass(frozen=True)
class Decision:
    """Whether a candidate becomes champion, and why; `comparison` is the test, if the decision rests on it."""

    action: Literal["promoted", "refused"]
    reason: str
    bounds: tuple[Bound, ...]
    comparison: Comparison | None = None


def bounds(candidate: Evaluation, config: RegisterConfig) -> tuple[Bound, ...]:
    """Return the absolute bounds: on FID, relative to what can be reached, on near-copies, and on the extractor.

    FID may lie a share of the way from that of real test images, which few images raise as much, to that of a trivial
    generator. A ratio to real images would depend on how near to 0 theirs is, so on the data.
    """
    score, copies = _score(candidate, "fid"), _score(candidate, "near_copies")
    fid, near_copies = (candidate.public_name(metric) for metric in ("fid", "near_copies"))
    if score.trivial is None:
        raise UserError(f"{candidate.name} has no {fid} of a trivial generator to be judged by; run dvc repro evaluate")
    share = config.max_fid_to_trivial
    way = f"{share:g} of the way from real test images, {score.real:.4g}, to a trivial generator, {score.trivial:.4g}"
    limit, excess = score.real + share * (score.trivial - score.real), copies.over_banks.mean - copies.real
    known = (
        _bound("max_fid_to_trivial", fid, score.over_banks.mean, limit, way),
        _bound("max_fid_ratio_to_noise", f"{fid}_to_noise", score.ratios()["to_noise"], config.max_fid_ratio_to_noise),
        _bound(
            "max_excess_near_copies", f"{near_copies} less that of real images", excess, config.max_excess_near_copies
        ),
    )
    return known if candidate.skill is None else (*known, _extractor_bound(candidate.skill))


def _bound(name: str, score: str, value: float, limit: float, meaning: str = "") -> Bound:
    return Bound(
        name, score, value, limit, bool(value <= limit), ", ".join(filter(None, [f"register.{name}", meaning]))
    )


def _extractor_bound(skill: Skill) -> Bound:
    """Return the bound on what a classifier names wrongly: in the features of a weak one no score is evidence."""
    counts = f"{skill.accuracy:.0%} of the test images rightly, {skill.fewest:.0%} are needed"
    why = f"the extractor is too weak: it names {counts}"
    why = "the extractor learns nothing: all test images are of one class" if skill.majority == 1 else why
    remedy = "raise extractor.epochs, correct the labels, or set extractor.kind to efficientnet-lite0"
    wrong = "the share of test images that the extractor names wrongly"
    return Bound("extractor", wrong, 1 - skill.accuracy, 1 - skill.fewest, not skill.weak, f"{why}; {remedy}")


def _score(evaluation: Evaluation, metric: str) -> Score:
    if metric not in evaluation.scores:
        missing = evaluation.public_name(metric)
        raise UserError(f"{evaluation.name} has no score {missing}, so it cannot be judged; run dvc repro evaluate")
    return evaluation.scores[metric]


def challenge(champion: ModelId, scored: Evaluation, candidate: Evaluation, config: RegisterConfig) -> Challenge:
    """Return how a candidate compares with the champion, whose evaluation is `scored`.

    Scores under different passports are not compared; the reason then lists what differs.
    """
    try:
        rules = config.metric, config.noise, config.false_promotion_rate
        return Challenge(champion, compare(scored, candidate, *rules))
    except PassportError:
        differing = "; ".join(differences(scored.passport, candidate.passport))
        reason = (
            f"scored under another passport than {scored.name} (its value first): {differing}. Score {scored.name} "
            "under the new one: python -m commands.rescore, then dvc repro --force --single-item register; or promote "
            "by hand" + _other_images(scored, candidate)
        )
        return Challenge(champion, None, reason)
    except UserError as error:
        return Challenge(champion, None, str(error))


def _other_images(scored: Evaluation, candidate: Evaluation) -> str:
    """Return what to do if the champion was made for images of another kind, as two folders of one name can be."""
    first, second = (evaluation.passport.get("reference", {}) for evaluation in (scored, candidate))
    same = first.get("dvc_md5") == second.get("dvc_md5")
    return "" if same else ". If its images are of another kind, give this model a name: register.model_name"


def decide(candidate: Evaluation, challenge: Challenge | None, config: RegisterConfig) -> Decision:
    """Return `promoted` if all bounds hold and the candidate is better than the champion, if any; else `refused`.

    Without a champion there is no challenge. If a score that is bounded was not measured, that is a UserError.
    """
    limits = bounds(candidate, config)
    broken = [
        f"{bound.score} is {bound.value:.4g}, above {bound.limit:.4g} ({bound.meaning})"
        for bound in limits
        if not bound.holds
    ]
    if broken:
        return Decision("refused", "; ".join(broken), limits)
    if challenge is None:
        return Decision("promoted", "all bounds hold and there was no champion", limits)
    if challenge.comparison is None:
        return Decision("refused", challenge.reason, limits)
    better = challenge.comparison.outcome.verdict == "better"
    action: Literal["promoted", "refused"] = "promoted" if better else "refused"
    return Decision(action, sentence(challenge.comparison), limits, challenge.comparison)
