"""Checks of numbers, and numbers that change with the images seen."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

MOST_STEPS, LARGEST_BATCH, WIDEST = 1_000_000_000, 1_000_000, 100_000
"""Bounds of `require_counts`, far beyond what anybody trains."""


def require(condition: bool, message: str) -> None:
    """Raise ValueError with a message unless a condition holds."""
    if not condition:
        raise ValueError(message)


@dataclass(frozen=True)
class Schedule:
    """A number that goes from `start` to `end` while so many images are seen, and stays there.

    None is for all images of the training. "cosine" is half a period of it, slow at both ends.
    """

    start: float
    end: float
    shape: Literal["linear", "cosine"]
    images: int | None

    def __post_init__(self) -> None:
        require(self.images is None or self.images > 0, f"images must be a positive number or null, got {self.images}")


Scheduled = float | Schedule
"""A constant, or a number that changes through training."""


def numbers(config: object, *names: str) -> Iterator[tuple[str, float]]:
    """Yield names and values, of a schedule both ends."""
    for name in names:
        value = getattr(config, name)
        if isinstance(value, Schedule):
            yield from ((f"{name}.start", value.start), (f"{name}.end", value.end))
        else:
            yield name, value


def require_positive(config: object, *names: str) -> None:
    """Refuse attributes that are not above 0 and finite; a schedule may begin or end at 0."""
    for name, value in numbers(config, *names):
        if "." in name:  # a schedule may begin or end at 0
            require(0 <= value < math.inf, f"{name} must not be negative or infinite, got {value}")
        else:
            require(0 < value < math.inf, f"{name} must be a positive number, got {value}")


def require_counts(config: object, most: int, *names: str) -> None:
    """Refuse whole numbers below 1, or above what any machine has time or memory for."""
    for name, value in numbers(config, *names):
        require(1 <= value <= most, f"{name} must be between 1 and {most:,}, got {value:,}")


def require_not_negative(config: object, *names: str) -> None:
    """Refuse attributes that are below 0 or infinite."""
    for name, value in numbers(config, *names):
        require(0 <= value < math.inf, f"{name} must not be negative or infinite, got {value}")


def require_shares(config: object, *names: str) -> None:
    """Refuse attributes outside of [0, 1)."""
    for name, value in numbers(config, *names):
        require(0 <= value < 1, f"{name} must be at least 0 and below 1, got {value}")
