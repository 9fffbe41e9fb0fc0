"""How sure a score is: intervals of means, and Welch's test between two models."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import stats

LEVEL = 0.95
"""Share of intervals that hold the mean that they are of."""

Verdict = Literal["better", "worse", "cannot tell"]


@dataclass(frozen=True)
class Interval:
    """A mean, and the bounds between which it lies in `LEVEL` of all repetitions."""

    mean: float
    low: float
    high: float


def interval(values: Sequence[float]) -> Interval:
    """Return the mean of independent measurements and Student's interval of it, mean ± t s / sqrt(n).

    Args:
        values: at least two measurements under one passport: of several banks of z, or of several trainings.

    Returns:
        The interval, in the unit of the values.

    Raises:
        ValueError: there are fewer than two values, whose spread nobody knows.
    """
    if len(values) < 2:
        raise ValueError(f"an interval needs at least two values, got {len(values)}")
    mean, error = float(np.mean(values)), float(np.std(values, ddof=1)) / len(values) ** 0.5
    half = float(stats.t.ppf((1 + LEVEL) / 2, len(values) - 1)) * error
    return Interval(mean, mean - half, mean + half)


def p_value(champion: Sequence[float], challenger: Sequence[float], *, lower_is_better: bool) -> float:
    """Return the probability of a difference as large as this in the challenger's favour, were both equally good.

    Welch's one-sided t-test (Welch 1947): t = (m1 - m2) / sqrt(s1^2 / n1 + s2^2 / n2) with the degrees of freedom of
    Welch and Satterthwaite, for two models may spread differently.

    Args:
        champion: at least two independent measurements.
        challenger: as many, or another number, under the same passport.
        lower_is_better: whether the score is a distance.

    Returns:
        p in [0, 1]. Where neither side varies at all: 0 if the challenger is better, else 1.
    """
    lower, higher = (challenger, champion) if lower_is_better else (champion, challenger)
    if len(set(lower)) == len(set(higher)) == 1:
        return 0.0 if lower[0] < higher[0] else 1.0
    # Not scipy's test of the values: it warns of cancellation where one side hardly varies, as coverage of all classes.
    ended = stats.ttest_ind_from_stats(
        mean1=np.mean(higher),
        std1=np.std(higher, ddof=1),
        nobs1=len(higher),
        mean2=np.mean(lower),
        std2=np.std(lower, ddof=1),
        nobs2=len(lower),
        equal_var=False,
        alternative="greater",
    )
    return float(ended.pvalue)


def verdict(first: Sequence[float], second: Sequence[float], *, lower_is_better: bool, rate: float) -> Verdict:
    """Return how the second model compares with the first.

    Args:
        first: at least two measurements of the first model.
        second: at least two of the second, under the same passport.
        lower_is_better: whether the score is a distance.
        rate: how often 'better', and how often 'worse', may be said of equal models.

    Returns:
        'better' or 'worse' where equally good models would differ as much in fewer than `rate` of all cases.
    """
    if p_value(first, second, lower_is_better=lower_is_better) < rate:
        return "better"
    return "worse" if p_value(second, first, lower_is_better=lower_is_better) < rate else "cannot tell"
