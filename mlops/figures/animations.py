"""Pictures that follow each other as one file."""

import io
from collections.abc import Sequence

from PIL import Image


def animation(frames: Sequence[Image.Image], seconds: float, *, last: float | None = None) -> bytes:
    """Return an endless animation as the bytes of a WebP file, which every browser shows.

    Args:
        frames: pictures of one size, at least one.
        seconds: that each is shown.
        last: seconds that the last one is shown; None for as long as the others.

    Returns:
        The content of the file; the same for the same frames.
    """
    durations = [round(1000 * seconds)] * len(frames)
    durations[-1] = durations[-1] if last is None else round(1000 * last)
    buffer = io.BytesIO()
    frames[0].save(
        buffer, "WEBP", save_all=True, append_images=frames[1:], duration=durations, loop=0, quality=80, method=2
    )
    return buffer.getvalue()
