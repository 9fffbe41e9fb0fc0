"""Originals after they were decoded, for tests."""

from typing import NamedTuple

from PIL import Image

from mlops.images.originals import Original
from mlops.images.pixels import RefusedError


class Read(NamedTuple):
    """An original after it was decoded, or why it was not."""

    source: str
    split: str | None
    class_name: str | None
    image: Image.Image | None
    refused: str | None
    note: str | None


def decoded(original: Original) -> Read:
    """Decode an original."""
    found = (original.source, original.split, original.class_name)
    try:
        image, note = original.load(lambda _: None)
    except RefusedError as reason:
        return Read(*found, None, str(reason), None)
    return Read(*found, image, None, note)
