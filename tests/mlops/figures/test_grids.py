import io

import numpy as np
import pytest
from PIL import Image

from mlops.figures.grids import GRID_SIDE, grid, png_bytes, side_by_side, stacked


@pytest.mark.parametrize(("channels", "mode"), [(1, "L"), (3, "RGB")])
@pytest.mark.parametrize("side", [8, 28, 64])
def test_each_image_is_in_its_cell(side: int, channels: int, mode: str) -> None:
    levels = np.arange(20, dtype=np.uint8) * 10
    pixels = np.broadcast_to(levels[:, None, None, None], (20, channels, side, side))
    sheet = grid(pixels, columns=10)
    assert sheet.mode == mode
    cell_width, cell_height = sheet.width // 10, sheet.height // 2
    for index, level in enumerate(levels):
        x, y = index % 10 * cell_width + cell_width // 3, index // 10 * cell_height + cell_height // 3
        assert np.all(np.asarray(sheet.getpixel((x, y))) == level)


def test_rows_and_columns_of_an_image_are_not_exchanged() -> None:
    pixels = np.zeros((1, 1, 8, 8), np.uint8)
    pixels[0, 0, :, 6] = 255
    sheet = np.asarray(grid(pixels, columns=1))
    assert sheet[300, 520] > 200
    assert sheet[520, 300] < 50


@pytest.mark.parametrize("side", [8, 28, 64])
def test_a_grid_is_large_enough_to_be_read(side: int) -> None:
    sheet = grid(np.zeros((100, 1, side, side), np.uint8), columns=10)
    assert 0.8 * GRID_SIDE <= sheet.width <= 1.2 * GRID_SIDE


def test_a_png_holds_the_picture_bit_for_bit() -> None:
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (9, 7), np.uint8))
    with Image.open(io.BytesIO(png_bytes(picture))) as read:
        assert np.array_equal(np.asarray(read), np.asarray(picture))


@pytest.mark.parametrize("count", [1, 7, 23, 436])
def test_panels_stand_side_by_side_however_few_the_images_are(count: int) -> None:
    white, black = np.full((count, 1, 8, 8), 255, np.uint8), np.zeros((count, 1, 8, 8), np.uint8)
    picture = np.asarray(side_by_side({"white": white, "black": black}).convert("L"))
    assert picture[40, 3] == 255
    assert picture[40, picture.shape[1] - 10] == 0


def test_each_row_has_its_name_to_its_left() -> None:
    pixels = np.zeros((20, 1, 8, 8), np.uint8)
    plain, named = side_by_side({"a": pixels}), side_by_side({"a": pixels}, ["", "a name"])
    assert named.height == plain.height
    left = named.width - plain.width
    margin = np.asarray(named.convert("L"))[36:, :left]
    upper, lower = np.split(margin, [len(margin) // 2])
    assert (upper == 255).all()
    assert (lower < 100).any()
    assert np.array_equal(np.asarray(named)[36:, left:], np.asarray(plain)[36:])


def test_panels_stand_below_each_other_in_the_order_given() -> None:
    white, black = np.full((10, 1, 8, 8), 255, np.uint8), np.zeros((20, 1, 8, 8), np.uint8)
    picture = np.asarray(stacked({"white": white, "black": black}, columns=10).convert("L"))
    first, second = grid(white, 10), grid(black, 10)
    assert picture.shape[1] == first.width == second.width
    assert picture[36 + first.height // 2, 10] == 255
    assert picture[36 + first.height + 36 + second.height // 4, 10] == 0
    assert picture.shape[0] == 72 + first.height + second.height
