import numpy as np
import pytest
from scipy import stats

from gan_core.metrics.intervals import Interval
from gan_core.metrics.utility.gain import answer, gain

SHARES = {way: np.random.default_rng(seed).uniform(0.8, 0.9, 6).tolist() for seed, way in enumerate(("one", "other"))}


def test_a_gain_is_that_of_the_paired_t_test() -> None:
    paired = stats.ttest_rel(SHARES["one"], SHARES["other"]).confidence_interval(0.95)
    measured = gain(SHARES, "one", "other")
    assert measured.mean == pytest.approx(np.mean(SHARES["one"]) - np.mean(SHARES["other"]), abs=1e-12)
    assert (measured.low, measured.high) == pytest.approx((paired.low, paired.high), abs=1e-12)


def test_what_seeds_share_is_no_noise() -> None:
    steady = gain({"one": [0.1, 0.5, 0.9], "other": [0.0, 0.4, 0.8]}, "one", "other")
    assert (steady.mean, steady.low, steady.high) == pytest.approx((0.1, 0.1, 0.1), abs=1e-9)


def test_seeds_without_a_partner_are_refused() -> None:
    with pytest.raises(ValueError, match="shorter"):
        gain({"one": [0.1, 0.5, 0.9], "other": [0.0, 0.4]}, "one", "other")


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0.001, 0.02, "helps"),
        (-0.02, -0.001, "does not help"),
        (0.0, 0.0, "does not help"),
        (-0.001, 0.02, "cannot tell"),
        (0.0, 0.02, "cannot tell"),
    ],
)
def test_the_answer_is_that_of_the_interval(low: float, high: float, expected: str) -> None:
    assert answer(Interval((low + high) / 2, low, high)) == expected
