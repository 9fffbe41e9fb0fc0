"""The labels in the `dataset.json` of StyleGAN's tools."""

import json
from collections.abc import Callable, Iterable
from typing import Any

from mlops.project.errors import UserError

LABELS = "dataset.json"
"""It lies in the folder that holds all images."""
MOST_BYTES = 32 << 20
"""Of this file, which has 50 bytes an image."""


def labels_file(names: Iterable[str], folders: Iterable[str]) -> str | None:
    """Return the name of the file that may have the labels of the images in some folders, if there is one."""
    places = {name: name.removesuffix(LABELS) for name in names if name.rpartition("/")[2] == LABELS}
    above = [name for name, place in places.items() if all(f"{folder}/".startswith(place) for folder in folders)]
    return min(above, key=len, default=None)


def labels(name: str, read: Callable[[str, int], bytes], place: str) -> dict[str, int] | None:
    """Return the class of each image that the file lists, by the image's name; nothing for `null`.

    It is None if the file has no key "labels", so another tool wrote it. UserError is raised, with `place`, if it is
    damaged or larger than `MOST_BYTES`, or if its labels are no pairs of a name, each once, and a whole number.
    """
    content = read(name, MOST_BYTES + 1)
    if len(content) > MOST_BYTES:
        raise UserError(f"{place}: {name} has more than {MOST_BYTES:,} bytes; make it smaller, or remove it")
    try:
        read_content = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{place}: {name} is damaged: {error}; replace it, or remove it to train without it") from None
    if not isinstance(read_content, dict) or "labels" not in read_content:
        return None
    pairs = read_content["labels"] or []
    odd = next((pair for pair in pairs if not _is_label(pair)), None) if isinstance(pairs, list) else pairs
    if odd is not None:
        raise UserError(
            f'{place}: {name} has among its labels {str(odd)[:80]}, which is not ["name of an image", whole number]; '
            'correct it, or set "labels" to null to train without labels'
        )
    found = {name.removesuffix(LABELS) + image: label for image, label in pairs}
    if len(found) < len(pairs):
        raise UserError(f"{place}: {name} lists an image twice; list each once")
    return found


def _is_label(pair: Any) -> bool:
    return (
        isinstance(pair, list)
        and len(pair) == 2
        and isinstance(pair[0], str)
        and type(pair[1]) is int  # True is an int as well
        and 0 <= pair[1] < 1 << 31
    )
