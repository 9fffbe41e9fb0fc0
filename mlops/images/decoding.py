"""What `prepare` does to a chunk of source images, in any process; so it imports no more than that needs."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

from mlops.images.memory import reserved
from mlops.images.originals import Chunk, Original
from mlops.images.pixels import RefusedError, pixels, unreadable
from mlops.project.errors import UserError
from mlops.project.prepared_data import Split

SPLITS: tuple[Split, ...] = get_args(Split)


class Row(NamedTuple):
    """What the manifest takes from one image; `width`, `height`, `sha256` and `split` are None if it was refused.

    `width` and `height` are those of the upright original, `sha256` is that of the prepared pixels; `note` is what was
    odd in an image that was not refused.
    """

    source: str
    split: Split | None
    class_name: str | None
    width: int | None
    height: int | None
    sha256: str | None
    refused: str | None
    note: str | None = None


@dataclass(frozen=True)
class Recipe:
    """How source images become pixels and go to splits: what a process needs of the parameters.

    `official_train` is the number of images in a published training split, which come first; 0 for other data.
    """

    size: int
    channels: Literal[1, 3]
    fit: Literal["crop", "pad", "stretch"]
    seed: int
    test_share: float
    validation_share: float
    official_train: int


@dataclass(frozen=True)
class Decoded:
    """The rows of a chunk's images, and the pixels (N, C, H, W) of those that were not refused.

    `columns` has one tuple for each field of `Row`. Both go from process to process: columns are pickled and read again
    in a tenth of the time of rows, and bytes are copied half as often as arrays.
    """

    columns: tuple[tuple[str | int | None, ...], ...]
    pixels: dict[Split, bytes]


def numbered(chunks: Iterator[Chunk], first: int) -> Iterator[tuple[int, Chunk]]:
    """Yield each chunk with the number of its first image among all, `first` for the first chunk."""
    for chunk in chunks:
        yield first, chunk
        first += len(chunk)


def decoded(task: tuple[int, Chunk], recipe: Recipe) -> Decoded:
    """Decode, resize, hash and split the images of a chunk, which comes with the number of its first among all."""
    first, chunk = task
    rows: list[Row] = []
    parts: dict[Split, list[bytes]] = {split: [] for split in SPLITS}
    for number, original in enumerate(chunk.originals(), first):
        try:
            content, size, note = _prepared(original, recipe)
        except RefusedError as reason:
            rows.append(Row(original.source, None, original.class_name, None, None, None, str(reason)))
            continue
        split = _split(original, number, content, recipe)
        parts[split].append(content)
        sha256 = hashlib.sha256(content).hexdigest()
        rows.append(Row(original.source, split, original.class_name, *size, sha256, None, note))
    return Decoded(tuple(zip(*rows, strict=True)), {split: b"".join(images) for split, images in parts.items()})


def _prepared(original: Original, recipe: Recipe) -> tuple[bytes, tuple[int, int], str | None]:
    """Return the prepared pixels, the size of the upright original, and a note; all else of it is freed."""
    try:
        with reserved("pixels") as reserve:
            image, note = original.load(reserve)
            content = pixels(image, size=recipe.size, channels=recipe.channels, fit=recipe.fit).tobytes()
            return content, image.size, note
    except (RefusedError, UserError):
        raise
    except MemoryError:  # nothing that an image is refused for: the next run may have more
        raise UserError(
            f"memory ran out at {original.source}; end other programs and run again, what was decoded is kept; if it "
            "runs out there again, remove this image from data.path"
        ) from None
    except Exception as error:
        raise unreadable(error) from error


def _split(original: Original, number: int, content: bytes, recipe: Recipe) -> Split:
    if number < recipe.official_train:
        kept = recipe.official_train - round(recipe.official_train * recipe.validation_share)
        return "train" if number < kept else "validation"
    if original.split == "test":
        return "test"
    test_share = recipe.test_share if original.split is None else 0.0
    shares = {"test_share": test_share, "validation_share": recipe.validation_share}
    return drawn_split(content, seed=recipe.seed, **shares)


def drawn_split(content: bytes, *, seed: int, test_share: float, validation_share: float) -> Split:
    """Return the split of an image by a hash of seed and prepared pixels, read as a number in [0, 1).

    Below `test_share`, in [0, 1), it is test; of what is above, the lowest `validation_share`, in (0, 1), is
    validation. So images with equal pixels are in one split, and adding or removing images moves no other.
    """
    digest = hashlib.sha256(f"{seed}:".encode() + content).digest()
    number = (int.from_bytes(digest[:8]) >> 11) / 2**53  # as many bits as a float holds, so never 1
    if number < test_share:
        return "test"
    return "validation" if number < test_share + (1 - test_share) * validation_share else "train"
