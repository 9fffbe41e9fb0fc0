"""Source images before they are decoded: one kind of record, whatever format they have."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

from PIL import Image

from mlops.images.memory import Reserve
from mlops.project.prepared_data import Split

Loaded = tuple[Image.Image, str | None]
"""An image, and perhaps a note: what was odd in reading it."""


@dataclass(frozen=True)
class Original:
    """One source image, not decoded yet; `split` is the official one; it and `class_name` may be None.

    `load` returns the image, and raises RefusedError if there is none. It calls its argument before it takes memory for
    pixels, with their number of bytes.
    """

    source: str
    split: Split | None
    class_name: str | None
    load: Callable[[Reserve], Loaded]


class Chunk(Protocol):
    """Consecutive source images, not decoded yet; small enough to be sent to another process."""

    def __len__(self) -> int: ...

    def originals(self) -> Iterator[Original]:
        """Yield them one by one; each can be decoded until the next is taken."""


@dataclass(frozen=True)
class Originals:
    """All source images in a fixed order; `classes` in label order, or None if folders name them.

    `official_train` is the number of images in a published training split, whose order is random; 0 for other data.
    `chunks(first, largest)` yields the images from number `first` on in chunks of at most `largest`. `unlabelled` is
    why images have no labels although something names classes.
    """

    total: int
    raw_bytes: int
    official_train: int
    classes: tuple[str, ...] | None
    chunks: Callable[[int, int], Iterator[Chunk]]
    unlabelled: str | None = None
