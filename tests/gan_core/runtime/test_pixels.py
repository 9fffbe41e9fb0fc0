import pytest
import torch

from gan_core.runtime.pixels import to_pixels, to_unit_range

ALL = torch.arange(256, dtype=torch.uint8)


def test_every_pixel_value_survives_the_round_trip() -> None:
    assert torch.equal(to_pixels(to_unit_range(ALL)), ALL)


def test_the_unit_range_is_reached_at_both_ends_in_equal_steps() -> None:
    values = to_unit_range(ALL)
    assert values.dtype == torch.float32
    assert (values[0].item(), values[255].item()) == (-1.0, 1.0)
    assert torch.allclose(values.diff(), torch.full((255,), 2 / 255), atol=1e-6, rtol=0)


@pytest.mark.parametrize("offset", [-0.49, -0.3, 0.0, 0.3, 0.49])
def test_a_value_goes_to_the_nearest_pixel(offset: float) -> None:
    images = (torch.arange(256, dtype=torch.float64) + offset) / 127.5 - 1
    assert torch.equal(to_pixels(images), ALL)


@pytest.mark.parametrize(("value", "pixel"), [(-1.1, 0), (-50.0, 0), (1.01, 255), (3.0, 255)])
def test_values_outside_the_range_are_clamped_and_never_wrap(value: float, pixel: int) -> None:
    assert to_pixels(torch.tensor([value])).tolist() == [pixel]


def test_shapes_stay() -> None:
    images = torch.zeros(2, 3, 4, 5, dtype=torch.uint8)
    assert to_unit_range(images).shape == to_pixels(to_unit_range(images)).shape == images.shape
