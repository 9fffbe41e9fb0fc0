"""A folder of images as people have them: some are odd, some are none."""

from pathlib import Path

import numpy as np
from PIL import Image

UNREADABLE = {"dark/empty.jpg", "dark/text.jpg", "dark/truncated.jpg"}
"""Files of `draw` that hold no image."""


def draw(folder: Path) -> None:
    """Draw a thousand images of two classes, three of other kinds, and `UNREADABLE`."""
    rng = np.random.default_rng(0)
    for number in range(1000):
        path = folder / ("light" if number % 2 else "dark") / f"{number}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = rng.integers(0, 128, (40, 50, 3), np.uint8) + np.uint8(127 * (number % 2))
        Image.fromarray(pixels).save(path)
    dark, picture = folder / "dark", Image.fromarray(pixels)
    picture.convert("CMYK").save(dark / "cmyk.jpg")
    picture.convert("P").save(dark / "palette.png")
    Image.fromarray(rng.integers(0, 2**16, (40, 50), np.uint16)).save(dark / "sixteen.png")
    (dark / "truncated.jpg").write_bytes((dark / "0.jpg").read_bytes()[:300])
    (dark / "empty.jpg").write_bytes(b"")
    (dark / "text.jpg").write_text("no image")
