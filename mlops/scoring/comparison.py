"""The comparison of two evaluations: a verdict on every score that both have, and what to say of it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import floor, log10

from gan_core.metrics.intervals import Interval, Verdict, p_value, verdict
from mlops.project.errors import UserError
from mlops.scoring.evaluation import LOWER_IS_BETTER, Evaluation, Noise, Score
from mlops.scoring.passport import require_same

NOISE: dict[Noise, str] = {"sampling": "sampling noise", "seeds": "seed-to-seed variance"}
TYPICAL = ("is", "precision", "density")
"""Metrics that images may have above real ones, by repeating what is most typical of these."""


@dataclass(frozen=True)
class Outcome:
    """How the second of two models compares with the first in one metric, and the p-value of 'better'."""

    verdict: Verdict
    p_value: float


@dataclass(frozen=True)
class Comparison:
    """Two evaluations under one passport, and an outcome for each metric that both have, the deciding one first."""

    first: Evaluation
    other: Evaluation
    metric: str
    noise: Noise
    rate: float
    outcomes: dict[str, Outcome]

    @property
    def outcome(self) -> Outcome:
        """The outcome in the deciding metric."""
        return self.outcomes[self.metric]

    def renamed(self, first: str, other: str) -> "Comparison":
        """Return the same comparison of models under other names."""
        return replace(self, first=replace(self.first, name=first), other=replace(self.other, name=other))


def compare(first: Evaluation, other: Evaluation, metric: str, noise: Noise, rate: float) -> Comparison:
    """Compare a model with a first one, in every metric whose measurements both have; `metric` decides.

    `noise` could make a difference by chance; `rate` is how often equal models may be called better, and how often
    worse, in one metric. Different passports are a PassportError; it is a UserError if one model lacks the metric, or
    if the noise is that of seeds and one was trained once.
    """
    require_same(first.passport, other.passport, (first.name, other.name))
    common = [name for name in LOWER_IS_BETTER if name in first.banks and name in other.banks]
    if metric not in common:
        raise UserError(
            f"{metric} was not measured for both {first.name} and {other.name}; choose one that was: "
            f"{', '.join(common)}"
        )
    outcomes = {}
    for name in sorted(common, key=lambda name: name != metric):
        values, lower = [model.values(name, noise) for model in (first, other)], LOWER_IS_BETTER[name]
        outcomes[name] = Outcome(
            verdict(*values, lower_is_better=lower, rate=rate), p_value(*values, lower_is_better=lower)
        )
    return Comparison(first, other, metric, noise, rate, outcomes)


def shown_interval(measured: Interval | None) -> str:
    """Return an interval as `2.43 [2.32, 2.53]`, with two digits of its half width, or `not measured`."""
    if measured is None:
        return "not measured"
    width = measured.high - measured.low
    digits = 3 if width == 0 else min(6, max(0, 1 - floor(log10(width / 2))))
    return f"{measured.mean:.{digits}f} [{measured.low:.{digits}f}, {measured.high:.{digits}f}]"


def sentence(comparison: Comparison) -> str:
    """Return in words whether the second model is better than the first, by which numbers, and how sure that is."""
    first, other, metric = comparison.first, comparison.other, comparison.metric
    pair = [shown_interval(model.scores[metric].interval(comparison.noise)) for model in (other, first)]
    numbers, column = " against ".join(pair), first.public_name(metric)
    if comparison.outcome.verdict == "cannot tell":
        text = f"{_capital(other.name)} against {first.name}: cannot tell in {column}. "
        text += f"{numbers} is within the {NOISE[comparison.noise]}."
    else:
        text = f"{_capital(other.name)} is {comparison.outcome.verdict} than {first.name} in {column}: {numbers}."
    text += f" One-sided p-value of better: {comparison.outcome.p_value:.2g}, at a rate of {comparison.rate:g}."
    rest = {name: outcome for name, outcome in comparison.outcomes.items() if name != metric}
    parts = []
    for wanted in ("better", "worse"):
        if names := [first.public_name(name) for name, outcome in rest.items() if outcome.verdict == wanted]:
            parts.append(f"{wanted} in {', '.join(names)}")
    return f"{text} Other scores: {'; '.join(parts)}." if parts else text


def summary(evaluation: Evaluation, metric: str) -> str:
    """Return a metric of a model beside that of real images, in words."""
    score = evaluation.scores[metric]
    shown = f"{evaluation.public_name(metric)} {shown_interval(score.over_banks)}"
    return f"{_capital(evaluation.name)} has {shown}, real test images {score.real:.4g}"


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def explanation(comparisons: Sequence[Comparison]) -> str:
    """Return how intervals and verdicts of comparisons with one first model are to be read."""
    first, noise, rate = comparisons[0].first, comparisons[0].noise, comparisons[0].rate
    banks = sorted({model.banks_each for pair in comparisons for model in (pair.first, pair.other)})
    over = f"{' or '.join(map(str, banks))} banks of z" if noise == "sampling" else "trainings under other seeds"
    text = (
        f"[low, high] is the 95 % interval of the mean over {over}, {first.images:,} images each. A verdict is better "
        f"or worse if equally good models would differ as much in that direction in fewer than {rate:.0%} of cases "
        "(Welch's test, for each score alone)."
    )
    if noise == "sampling":
        text += " This compares these generators; another training seed may change a score by more than that."
    if any(model.few_images for pair in comparisons for model in (pair.first, pair.other)):
        text += " FEW IMAGES: fewer than twice the dimension of the features, so FID is biased upwards and noisy."
    return text


def direction(metric: str, score: Score | None = None) -> str:
    """Return which values of a metric are better: lower, higher, or neither.

    Neither, if IS, precision or density of `score` are significantly above those of real images: a few typical images,
    over and over, have such values, as truncation does (Kynkäänniemi et al. 2019, arXiv:1904.06991, section 3).
    """
    if score is not None and metric in TYPICAL and score.over_banks.low > score.real:
        return "neither"
    return "lower" if LOWER_IS_BETTER[metric] else "higher"
