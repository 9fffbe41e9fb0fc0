from dataclasses import replace

import pytest
import torch
from torch import Tensor

from gan_core.runtime.pixels import to_unit_range
from gan_core.training.batches import Batches, StreamedBatches
from tests.gan_core.examples import CPU, IMAGES, MLP, TRAIN, random_pixels

PLACES = [(step, k) for step in (1, 2, 3) for k in (0, 1)]


def test_streamed_batches_are_those_of_images_at_hand() -> None:
    at_hand, streamed = Batches(TRAIN, IMAGES), StreamedBatches(TRAIN, IMAGES, CPU)
    for place in [*PLACES, (7, 1), (2,), (1, 0)]:  # in order, and as after a resume
        assert torch.equal(at_hand.batch("real", *place), streamed.batch("real", *place))


def test_what_comes_next_is_gathered_while_nobody_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    streamed = StreamedBatches(TRAIN, IMAGES, CPU)
    asked: list[tuple[str, *tuple[int, ...]]] = []

    def chosen(purpose: str, *counters: int) -> Tensor:
        asked.append((purpose, *counters))
        return Batches.chosen(streamed, purpose, *counters)

    monkeypatch.setattr(streamed, "chosen", chosen)
    streamed.batch("real", 4, 1)
    streamed.batch("real", 5, 1)
    streamed._thread.shutdown()
    assert asked == [("real", 4, 1), ("real", 5, 1), ("real", 6, 1)]


@pytest.mark.parametrize("count", [40, 10**12])
def test_a_draw_costs_no_more_among_more_images(count: int) -> None:
    endless = torch.zeros(1, dtype=torch.uint8).expand(count, 1)  # that many rows in one byte of memory
    batch = Batches(TRAIN, endless).real("real", 1, 0)
    assert batch.shape == (TRAIN.batch_size, 1)


def test_every_image_is_drawn_equally_often() -> None:
    draws = Batches(replace(TRAIN, batch_size=40_000), IMAGES)
    counts = torch.bincount(draws.chosen("real", 1, 0), minlength=len(IMAGES))
    assert ((counts - 1000).abs() < 6 * 1000**0.5).all()


def test_images_are_seen_in_the_unit_range_and_points_as_they_are() -> None:
    draws = Batches(TRAIN, IMAGES)
    assert torch.equal(draws.real("real", 1, 0), to_unit_range(IMAGES[draws.chosen("real", 1, 0)]))
    points = torch.randn(50, 2)
    draws = Batches(TRAIN, points)
    assert torch.equal(draws.real("real", 1, 0), points[draws.chosen("real", 1, 0)])


def test_other_names_are_other_draws() -> None:
    draws = Batches(TRAIN, random_pixels(1000))
    assert len({tuple(draws.chosen("real", *place).tolist()) for place in PLACES}) == len(PLACES)
    assert len({draws.z(MLP, "z", *place).sum().item() for place in PLACES}) == len(PLACES)
