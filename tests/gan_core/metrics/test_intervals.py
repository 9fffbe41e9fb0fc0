import math

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy import stats

from gan_core.metrics.intervals import LEVEL, interval, p_value, verdict

numbers = st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=12)


def test_the_interval_is_students() -> None:
    values = [2.0, 3.0, 7.0, 4.0]
    result = interval(values)
    error = math.sqrt(14 / 3 / 4)  # squared deviations of 4, 1, 9, 0
    assert result.mean == pytest.approx(4, rel=1e-12)
    assert result.high - result.mean == pytest.approx(3.182446305284263 * error, rel=1e-9)
    assert result.mean - result.low == pytest.approx(result.high - result.mean, rel=1e-12)


def test_the_interval_contains_the_mean_as_often_as_its_level() -> None:
    draws = np.random.default_rng(0).normal(5, 2, (4000, 6))
    held = np.mean([each.low <= 5 <= each.high for each in map(interval, draws)])
    # Four standard deviations of a share among 4,000.
    assert held == pytest.approx(LEVEL, abs=4 * math.sqrt(LEVEL * (1 - LEVEL) / 4000))


def test_one_value_has_no_interval() -> None:
    with pytest.raises(ValueError, match=r"got 1$"):
        interval([1.0])


@pytest.mark.parametrize("lower_is_better", [True, False])
def test_the_p_value_is_that_of_welch(lower_is_better: bool) -> None:
    champion, challenger = [5.0, 6.5, 5.5, 7.0], [4.0, 5.1, 4.4, 5.2, 4.9, 4.8]
    spread = [np.var(values, ddof=1) / len(values) for values in (champion, challenger)]
    t = (np.mean(champion) - np.mean(challenger)) / math.sqrt(sum(spread)) * (1 if lower_is_better else -1)
    freedom = sum(spread) ** 2 / (spread[0] ** 2 / 3 + spread[1] ** 2 / 5)
    p = p_value(champion, challenger, lower_is_better=lower_is_better)
    assert p == pytest.approx(stats.t.sf(t, freedom), rel=1e-9)
    assert (p < 0.5) == lower_is_better


@given(numbers, numbers)
def test_both_directions_share_one(champion: list[float], challenger: list[float]) -> None:
    assume(np.std(champion) > 1e-3 and np.std(challenger) > 1e-3)
    forth = p_value(champion, challenger, lower_is_better=True)
    assert forth + p_value(challenger, champion, lower_is_better=True) == pytest.approx(1, abs=1e-9)
    assert forth == pytest.approx(p_value(challenger, champion, lower_is_better=False), abs=1e-12)


@given(numbers, numbers)
def test_better_one_way_is_worse_the_other(first: list[float], second: list[float]) -> None:
    assume(np.std(first) > 1e-3 and np.std(second) > 1e-3)
    mirrored = {"better": "worse", "worse": "better", "cannot tell": "cannot tell"}
    there, back = (verdict(*pair, lower_is_better=True, rate=0.05) for pair in ((first, second), (second, first)))
    assert back == mirrored[there]


def test_equal_models_are_called_better_at_the_stated_rate() -> None:
    rng, rate = np.random.default_rng(1), 0.1
    called = [
        verdict(list(rng.normal(3, 1, 8)), list(rng.normal(3, 1, 12)), lower_is_better=True, rate=rate)
        for _ in range(3000)
    ]
    for word in ("better", "worse"):
        assert called.count(word) / 3000 == pytest.approx(rate, abs=4 * math.sqrt(rate * (1 - rate) / 3000))


@pytest.mark.parametrize(
    ("first", "second", "expected"), [(1.0, 2.0, "worse"), (2.0, 1.0, "better"), (1.0, 1.0, "cannot tell")]
)
def test_values_that_never_vary_are_compared_as_they_are(first: float, second: float, expected: str) -> None:
    assert verdict([first] * 3, [second] * 3, lower_is_better=True, rate=0.05) == expected
