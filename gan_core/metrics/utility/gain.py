"""What classifiers are compared, and by how much one is better than another; imports no torch."""

from collections.abc import Mapping, Sequence
from typing import Literal

from gan_core.metrics.intervals import Interval, interval

WAYS = ("real", "shifted", "generated", "real_generated", "shifted_generated")
"""What a classifier is trained on: real images as they are or shifted, generated ones, and half of each."""

Answer = Literal["helps", "does not help", "cannot tell"]


def gain(accuracies: Mapping[str, Sequence[float]], way: str, against: str) -> Interval:
    """Return the mean difference of accuracy of two ways and its 95 % interval over seeds, paired by seed.

    It is Student's interval of the differences, for what a seed decides both ways share.

    Args:
        accuracies: of each way, those of at least two seeds in the same order.
        way: whose accuracy may be higher.
        against: the other one.

    Returns:
        The gain, as a share of the test images.
    """
    return interval([one - other for one, other in zip(accuracies[way], accuracies[against], strict=True)])


def answer(gained: Interval) -> Answer:
    """Return whether a gain is above 0, or is not, or may be either, by its interval."""
    if gained.low > 0:
        return "helps"
    return "does not help" if gained.high <= 0 else "cannot tell"
