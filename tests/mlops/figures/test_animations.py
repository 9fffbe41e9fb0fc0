import io

import numpy as np
import pytest
from PIL import Image
from PIL.WebPImagePlugin import WebPImageFile

from mlops.figures.animations import animation


@pytest.mark.parametrize("last", [None, 2.0])
def test_an_animation_has_its_frames_in_order_and_their_durations(last: float | None) -> None:
    frames = [Image.new("RGB", (40, 30), (0, 80 * index, 0)) for index in range(4)]
    with Image.open(io.BytesIO(animation(frames, 0.1, last=last))) as film:
        assert isinstance(film, WebPImageFile)
        assert (film.format, film.n_frames, film.size, film.info["loop"]) == ("WEBP", 4, (40, 30), 0)
        durations, greens = [], []
        for index in range(film.n_frames):
            film.seek(index)
            film.load()
            durations.append(film.info["duration"])
            greens.append(int(np.asarray(film.convert("RGB"))[15, 20, 1]))
    assert greens == pytest.approx([0, 80, 160, 240], abs=6)
    assert durations == [100, 100, 100, 100 if last is None else 2000]
