"""The gate: absolute bounds, and a statistical test against the champion."""

from dataclasses import dataclass
from typing import Literal

from mlops.project.errors import UserError
from mlops.project.params import RegisterConfig
from mlops.promotion.history import ModelId
from mlops.scoring.comparison import Comparison, compare, sentence
from mlops.scoring.evaluation import Evaluation, Score
from mlops.scoring.passport import PassportError, differences


@dataclass(frozen=True)
class Bound:
    """A number that may be at most its limit; `name` is the limit's key in the section `register`."""

    name: str
    score: str
    value: float
    limit: float
    holds: bool


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
    """Return the absolute bounds: FID relative to real images and to noise, and near-copies beyond real ones."""
    ratios, copies = _score(candidate, "fid").ratios(), _score(candidate, "near_copies")
    fid, near_copies = (candidate.public_name(metric) for metric in ("fid", "near_copies"))
    values = {
        "max_fid_ratio_to_real": (f"{fid}_to_real", ratios["to_real"]),
        "max_fid_ratio_to_noise": (f"{fid}_to_noise", ratios["to_noise"]),
        "max_excess_near_copies": (f"{near_copies} less that of real images", copies.over_banks.mean - copies.real),
    }
    return tuple(
        Bound(name, score, value, getattr(config, name), bool(value <= getattr(config, name)))
        for name, (score, value) in values.items()
    )


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
            "under the new one: dvc repro with its own data, network and train sections; or promote by hand"
        )
        return Challenge(champion, None, reason)
    except UserError as error:
        return Challenge(champion, None, str(error))


def decide(candidate: Evaluation, challenge: Challenge | None, config: RegisterConfig) -> Decision:
    """Return `promoted` if all bounds hold and the candidate is better than the champion, if any; else `refused`.

    Without a champion there is no challenge. If a score that is bounded was not measured, that is a UserError.
    """
    limits = bounds(candidate, config)
    broken = [
        f"{bound.score} is {bound.value:.4g}, above {bound.limit:g} (register.{bound.name})"
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
