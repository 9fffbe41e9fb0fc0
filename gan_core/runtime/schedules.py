"""What a scheduled number is after so many images were seen."""

import math

from gan_core.config import Schedule, Scheduled, TrainConfig


def value_at(scheduled: Scheduled, *, images_seen: int, images: int) -> float:
    """Return (1 - w) start + w end with w = n / N for a linear schedule, (1 - cos(pi n / N)) / 2 for a cosine one.

    Counted in images, as Huang et al. 2024 (arXiv:2501.05441) do, it does not depend on the size of a batch.

    Args:
        scheduled: a constant, which is returned, or a schedule.
        images_seen: n, real images that the discriminator has seen before, at least 0; from N on w is 1.
        images: of the whole training, which is N if the schedule names no other.

    Returns:
        The number, in its own unit.
    """
    if not isinstance(scheduled, Schedule):
        return scheduled
    share = min(images_seen / (scheduled.images or images), 1.0)
    weight = share if scheduled.shape == "linear" else (1 - math.cos(math.pi * share)) / 2
    return scheduled.start * (1 - weight) + scheduled.end * weight


def at_step(config: TrainConfig, scheduled: Scheduled, step: int) -> float:
    """Return what a scheduled number is in a step of a training, from 1: after the images of all steps before it."""
    images = config.batch_size * config.discriminator_steps
    return value_at(scheduled, images_seen=(step - 1) * images, images=config.steps * images)


def largest(scheduled: Scheduled) -> float:
    """Return the largest number that a schedule reaches."""
    return max(scheduled.start, scheduled.end) if isinstance(scheduled, Schedule) else scheduled
