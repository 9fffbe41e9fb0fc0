"""The gate: absolute bounds, and a statistical test against the champion."""

from dataclasses import dataclass
from typing import Literal

from gan_core.metrics.intervals import Interval, Verdict, interval
from mlops.project.errors import UserError
from mlops.project.params import RegisterConfig
from mlops.scoring.evaluation import Evaluation, Noise, compare, suffix
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
class Comparison:
    """The test against the champion, and both means."""

    metric: str
    noise: Noise
    rate: float
    verdict: Verdict
    p_value: float
    champion: Interval
    candidate: Interval


@dataclass(frozen=True)
class Decision:
    """Whether a candidate becomes champion, and why."""

    action: Literal["promoted", "refused"]
    reason: str
    bounds: tuple[Bound, ...]
    comparison: Comparison | None = None


def bounds(candidate: Evaluation, config: RegisterConfig) -> tuple[Bound, ...]:
    """Return the absolute bounds: FID relative to real images and to noise, and near-copies beyond real ones."""
    ending = suffix(candidate.passport)
    excess = _score(candidate, f"near_copies{ending}") - _score(candidate, f"near_copies{ending}_of_real")
    values = {
        "max_fid_ratio_to_real": (f"fid{ending}_to_real", _score(candidate, f"fid{ending}_to_real")),
        "max_fid_ratio_to_noise": (f"fid{ending}_to_noise", _score(candidate, f"fid{ending}_to_noise")),
        "max_excess_near_copies": (f"near_copies{ending} less that of real images", excess),
    }
    return tuple(
        Bound(name, score, value, getattr(config, name), bool(value <= getattr(config, name)))
        for name, (score, value) in values.items()
    )


def _score(evidence: Evaluation, name: str) -> float:
    if name not in evidence.scores:
        raise UserError(f"{evidence.name} has no score {name}, so it cannot be judged; measure it: dvc repro evaluate")
    return float(evidence.scores[name])


def decide(candidate: Evaluation, champion: Evaluation | None, config: RegisterConfig) -> Decision:
    """Return whether a candidate becomes champion.

    Args:
        candidate: what `evaluate` found about it.
        champion: what it found about the champion; None where there is none.
        config: the bounds, and what the test may cost.

    Returns:
        `promoted` if all bounds hold and the candidate is better than the champion, if there is one; else `refused`.
        Scores under another passport are not compared: the reason lists what differs.

    Raises:
        UserError: a score that is bounded was not measured.
    """
    found = bounds(candidate, config)
    broken = [
        f"{bound.score} is {bound.value:.4g}, above {bound.limit:g} (register.{bound.name})"
        for bound in found
        if not bound.holds
    ]
    if broken:
        return Decision("refused", "; ".join(broken), found)
    if champion is None:
        return Decision("promoted", "all bounds hold and there was no champion", found)
    try:
        comparison = _compared(champion, candidate, config)
    except PassportError:
        differing = "; ".join(differences(champion.passport, candidate.passport))
        reason = (
            f"scored under another passport than {champion.name} (its value first): {differing}. Score {champion.name} "
            "under the new one: dvc repro with its own data, network and train sections; or promote by hand"
        )
        return Decision("refused", reason, found)
    except UserError as error:
        return Decision("refused", str(error), found)
    action: Literal["promoted", "refused"] = "promoted" if comparison.verdict == "better" else "refused"
    return Decision(action, _sentence(comparison, champion.name), found, comparison)


def _compared(champion: Evaluation, candidate: Evaluation, config: RegisterConfig) -> Comparison:
    rate = config.false_promotion_rate
    outcome = compare(champion, candidate, config.metric, noise=config.noise, rate=rate)
    means = (interval(model.values(config.metric, config.noise)) for model in (champion, candidate))
    name = f"{config.metric}{suffix(candidate.passport)}"
    return Comparison(name, config.noise, rate, outcome.verdict, outcome.p_value, *means)


def _sentence(found: Comparison, champion: str) -> str:
    words = {
        "better": f"better than {champion}",
        "worse": f"worse than {champion}",
        "cannot tell": f"not better than {champion} by more than luck",
    }
    new, old = (f"{mean.mean:.4g} ({mean.low:.4g} to {mean.high:.4g})" for mean in (found.candidate, found.champion))
    luck = "of z" if found.noise == "sampling" else "of seeds"
    return (
        f"{words[found.verdict]}: {found.metric} {new} against {old}, p = {found.p_value:.2g} for a rate of "
        f"{found.rate:g} (luck {luck})"
    )
