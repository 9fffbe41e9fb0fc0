"""Which folders are splits: the usual names in any case, and a question if only some folders look like one."""

import re

from mlops.project.errors import UserError
from mlops.project.prepared_data import Split

Meaning = tuple[Split, tuple[str, ...]]
"""The split that a name is a usual one of, and the other words in it: `seg_train` is train, and seg."""

TRAIN = {"train", "training", "trainval"}
HELD_OUT = {"test", "testing", "val", "valid", "validation", "dev", "eval", "evaluation"}
VALIDATION = HELD_OUT - {"test", "testing"}
FILLING = {"set", "data", "dataset", "split", "image", "images", "img", "imgs"}
"""Words beside the split that tell nothing apart."""
SHOWN = 10
"""Folders that an error names."""
_BETWEEN = re.compile(r"(?<=[a-z])(?=[A-Z])|[\W_]+")  # trainSet, train-set
_ENDING = re.compile(r"(?<=.)(set|data)?\d*$")  # trainset, val2017


def splits_among(names: list[str], place: str, *, by_itself: bool) -> dict[str, Split | None]:
    """Return the splits that some folders beside each other are.

    Args:
        names: of the folders.
        place: what an error calls the folder that holds them.
        by_itself: whether a folder called train, say, looks like a split without its counterpart.

    Returns:
        The split of each folder: nothing if they are no splits, and None if all are training images, for these are
        parts of one whole without an official split.

    Raises:
        UserError: some of the folders look like splits, and they are no splits together.
    """
    every = {name: meaning(name) for name in names}
    meanings = {name: each for name, each in every.items() if each is not None}
    trained, held_out = ({rest for split, rest in meanings.values() if split == each} for each in ("train", "test"))
    if len(meanings) == len(names) and len(trained | held_out) == 1:
        if trained and held_out:
            return {name: split for name, (split, _) in meanings.items()}
        if trained:
            return dict.fromkeys(names) if by_itself else {}
    alike = [
        name
        for name, (_, rest) in meanings.items()
        if rest in trained & held_out or (by_itself and all(len(word) == 1 for word in rest))
    ]
    if alike:
        raise UserError(_question(alike, [name for name in names if name not in alike], place))
    return {}


def meaning(name: str) -> Meaning | None:
    """Return what a folder's name means as a split; None if no word of it is a split, or training and test both are."""
    stems = {word.lower(): _ENDING.sub("", word.lower()) for word in _BETWEEN.split(name)}
    kinds = set(stems.values())
    trains = bool(kinds & TRAIN)
    if not kinds & (TRAIN | HELD_OUT) or (trains and kinds & HELD_OUT - VALIDATION):
        return None
    rest = [word for word, stem in stems.items() if stem not in TRAIN | HELD_OUT | FILLING and not stem.isdecimal()]
    return "train" if trains else "test", tuple(filter(None, rest))


def shown(names: list[str]) -> str:
    """Return a list of names for an error."""
    return ", ".join(names[:SHOWN]) + (f" and {len(names) - SHOWN:,} more" if len(names) > SHOWN else "")


def _question(alike: list[str], others: list[str], place: str) -> str:
    one, beside = len(alike) == 1, "together they are not one training split with what is held out of it"
    if others:
        beside = f"{shown(others)} {'does' if len(others) == 1 else 'do'} not"
    folders = f"the folder {shown(alike)} looks like a split" if one else f"the folders {shown(alike)} look like splits"
    return (
        f"{place}: {folders}, but {beside}; for splits, leave nothing there but folders called like train and test; if "
        "they are classes, rename them, train to trains, say, which is no split's name; or point data.path at the part "
        "that is meant"
    )
