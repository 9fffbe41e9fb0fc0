import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gan_core.config import Schedule
from gan_core.runtime.schedules import at_step, largest, value_at
from tests.gan_core.examples import TRAIN

numbers, images = st.floats(0, 1e3), st.integers(1, 10**8)
schedules = st.builds(Schedule, numbers, numbers, st.sampled_from(["linear", "cosine"]), images)


@given(schedules)
def test_a_schedule_goes_from_its_start_to_its_end_and_stays(schedule: Schedule) -> None:
    assert schedule.images is not None
    values = [value_at(schedule, images_seen=n, images=1) for n in (0, schedule.images, 2 * schedule.images)]
    assert values == [schedule.start, schedule.end, schedule.end]


@given(schedules, st.floats(0, 1), images)
def test_both_shapes_are_point_symmetric_around_the_middle(schedule: Schedule, share: float, total: int) -> None:
    of_all = Schedule(schedule.start, schedule.end, schedule.shape, None)
    n = round(share * total)
    there, back = (value_at(of_all, images_seen=seen, images=total) for seen in (n, total - n))
    assert there + back == pytest.approx(of_all.start + of_all.end, rel=1e-9, abs=1e-9)
    assert min(of_all.start, of_all.end) - 1e-9 <= there <= largest(of_all) + 1e-9


def test_a_quarter_of_the_way_a_cosine_has_gone_less_than_a_line() -> None:
    """Huang et al. 2024: v0 + (v1 - v0) (1 - cos(pi n / N)) / 2."""
    values = {shape: value_at(Schedule(2.0, 4.0, shape, 8), images_seen=2, images=1) for shape in ("linear", "cosine")}
    assert values == pytest.approx({"linear": 2.5, "cosine": 3 - math.cos(math.pi / 4)})


@given(numbers, st.integers(0, 100))
def test_a_number_stays_what_it_is(number: float, seen: int) -> None:
    assert value_at(number, images_seen=seen, images=100) == largest(number) == number


@given(st.floats(1e-9, 1), st.integers(1, 10**6))
def test_a_linear_decay_is_exactly_that_in_steps(rate: float, step: int) -> None:
    """Of before: rate (1 - (step - 1) / steps), bit for bit, so that trainings of before have the same bytes."""
    config = TRAIN.__class__(**vars(TRAIN) | {"steps": 10**6})
    assert at_step(config, Schedule(rate, 0.0, "linear", None), step) == rate * (1 - (step - 1) / 10**6)
