"""Grids of images that a person can read."""

import io
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

GRID_SIDE, LARGEST_GRID = 640, 1280
"""Pixels that a grid's width comes close to, so that 8-pixel images can be read, and above which images shrink."""
FONT, LONGEST_NAME = ImageFont.load_default(22), 20
"""In points; in characters."""


def grid(pixels: NDArray[np.uint8], columns: int) -> Image.Image:
    """Return images side by side, enlarged to be readable or shrunk to fit, with a thin light line between them.

    Args:
        pixels: (N, C, H, W) with C of 1 or 3; N is a multiple of `columns`.
        columns: images in a row.

    Returns:
        A picture of about `GRID_SIDE` to `LARGEST_GRID` pixels wide.
    """
    count, channels, _, width = pixels.shape
    shrink = -(-columns * width // LARGEST_GRID)
    factor = max(1, GRID_SIDE // (columns * width))
    framed = np.pad(_resized(pixels, width * factor // shrink), ((0, 0), (0, 0), (0, 2), (0, 2)), constant_values=200)
    rows = framed.reshape(count // columns, columns, channels, *framed.shape[2:])
    sheet = rows.transpose(0, 3, 1, 4, 2).reshape(count // columns * framed.shape[2], -1, channels)
    return Image.fromarray(sheet.squeeze(2) if channels == 1 else sheet)


def _resized(pixels: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    """Return images `side` pixels wide, interpolated: an 8-pixel digit is easier to read than its blocks."""
    count, channels, height, width = pixels.shape
    height = height * side // width
    planes = [Image.fromarray(plane) for plane in pixels.reshape(-1, *pixels.shape[2:])]
    resized = [np.asarray(plane.resize((side, height), Image.Resampling.BICUBIC)) for plane in planes]
    return np.stack(resized).reshape(count, channels, height, side)


def side_by_side(panels: dict[str, NDArray[np.uint8]], row_names: Sequence[str] = ()) -> Image.Image:
    """Return a grid of up to 100 images for each panel (N, C, H, W), its name above it; white between the grids.

    `row_names` stand to the left of the rows, as far as there are any; long ones are cut.
    """
    sheets = {}
    for name, pixels in panels.items():
        columns = min(10, len(pixels))
        sheets[name] = grid(pixels[: min(100, len(pixels) // columns * columns)], columns)
    gap, title, names = 24, 36, [name[:LONGEST_NAME] for name in row_names]
    left = round(max(map(FONT.getlength, names), default=-gap)) + gap
    width = left + sum(sheet.width for sheet in sheets.values()) + gap * (len(sheets) - 1)
    height = max(sheet.height for sheet in sheets.values())
    picture = Image.new("RGB", (width, title + height), "white")
    draw = ImageDraw.Draw(picture)
    for row, name in enumerate(names):
        draw.text((0, title + (row + 0.5) * height / len(names)), name, fill="black", font=FONT, anchor="lm")
    for name, sheet in sheets.items():
        draw.text((left, 4), name, fill="black", font=FONT)
        picture.paste(sheet, (left, title))
        left += sheet.width + gap
    return picture


def stacked(panels: dict[str, NDArray[np.uint8]], columns: int) -> Image.Image:
    """Return grids of the same number of columns below each other, the name of each above it; white between them.

    Panels are (N, C, H, W), each N a multiple of `columns`.
    """
    sheets = {name: grid(pixels, columns) for name, pixels in panels.items()}
    title = 36
    height = sum(sheet.height + title for sheet in sheets.values())
    picture = Image.new("RGB", (max(sheet.width for sheet in sheets.values()), height), "white")
    top = 0
    for name, sheet in sheets.items():
        ImageDraw.Draw(picture).text((0, top + 4), name, fill="black", font=FONT)
        picture.paste(sheet, (0, top + title))
        top += title + sheet.height
    return picture


def png_bytes(picture: Image.Image) -> bytes:
    """Return a picture as the bytes of a PNG file."""
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG")
    return buffer.getvalue()
