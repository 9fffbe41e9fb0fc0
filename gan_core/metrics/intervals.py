"""How certain a score is: confidence intervals of means, and Welch's test between two models."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import special

LEVEL = 0.95
"""Confidence level: the share of intervals that contain the true mean."""

Verdict = Literal["better", "worse", "cannot tell"]


@dataclass(frozen=True)
class Interval:
    """A mean, and the bounds of its confidence interval at `LEVEL`."""

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
        ValueError: there are fewer than two values, of which no variance can be estimated.
    """
    if len(values) < 2:
        raise ValueError(f"an interval needs at least two values, got {len(values)}")
    mean, error = float(np.mean(values)), float(np.std(values, ddof=1)) / len(values) ** 0.5
    half = float(special.stdtrit(len(values) - 1, (1 + LEVEL) / 2)) * error
    return Interval(mean, mean - half, mean + half)


def p_value(champion: Sequence[float], challenger: Sequence[float], *, lower_is_better: bool) -> float:
    """Return the probability of a difference as large as this in the challenger's favour if both were equally good.

    Welch's one-sided t-test (Welch 1947): t = (m1 - m2) / sqrt(s1^2 / n1 + s2^2 / n2) with the degrees of freedom of
    Welch and Satterthwaite, because the variances of two models may differ.

    Args:
        champion: at least two independent measurements.
        challenger: as many, or another number, under the same passport.
        lower_is_better: whether the score is a distance.

    Returns:
        p in [0, 1]; if neither side varies at all, 0 for a better challenger, else 1.
    """
    lower, higher = (challenger, champion) if lower_is_better else (champion, challenger)
    if len(set(lower)) == len(set(higher)) == 1:
        return 0.0 if lower[0] < higher[0] else 1.0
    errors = [float(np.var(values, ddof=1)) / len(values) for values in (lower, higher)]
    squares = sum(error**2 / (len(values) - 1) for error, values in zip(errors, (lower, higher), strict=True))
    statistic = (float(np.mean(higher)) - float(np.mean(lower))) / sum(errors) ** 0.5
    return float(special.stdtr(sum(errors) ** 2 / squares, -statistic))


def verdict(first: Sequence[float], second: Sequence[float], *, lower_is_better: bool, rate: float) -> Verdict:
    """Return how the second model compares with the first.

    Args:
        first: at least two measurements of the first model.
        second: at least two of the second, under the same passport.
        lower_is_better: whether the score is a distance.
        rate: the false positive rate of 'better', and that of 'worse', between equally good models.

    Returns:
        'better' or 'worse' if the difference is significant at level `rate`, else 'cannot tell'.
    """
    if p_value(first, second, lower_is_better=lower_is_better) < rate:
        return "better"
    return "worse" if p_value(second, first, lower_is_better=lower_is_better) < rate else "cannot tell"
