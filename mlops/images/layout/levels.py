"""How deep in the folders splits and classes are."""

from collections.abc import Iterable
from dataclasses import dataclass

from mlops.images.layout.split_names import shown, splits_among
from mlops.project.errors import UserError
from mlops.project.prepared_data import Split

Parts = tuple[str, ...]
"""The names of a folder and of those that hold it, outermost first."""
SHARD = 1000
"""Images in a folder of FFHQ, whose folders are called 00000, 01000 and so on."""


@dataclass(frozen=True)
class Levels:
    """The names at `split_at` are the splits of `splits`, those at `class_at`, if there is any, are classes.

    In `splits` None is a part of what has no official split.
    """

    splits: dict[str, Split | None]
    split_at: int
    class_at: int | None

    def split(self, folder: Parts) -> Split | None:
        """Return the official split of a folder."""
        return self.splits.get(folder[self.split_at]) if len(folder) > self.split_at else None

    def class_name(self, folder: Parts) -> str | None:
        """Return the class of a folder."""
        return folder[self.class_at] if self.class_at is not None and len(folder) > self.class_at else None

    @property
    def official(self) -> bool:
        """Whether there are splits, so that what is outside of them belongs to none."""
        return any(self.splits.values())


def levels(folders: set[Parts], source: str) -> Levels:
    """Return where splits and classes are in the folders that hold images.

    A folder that holds everything else is skipped, and so on inside it. Splits are outside of classes, or inside each.
    UserError is raised if only some folders look like splits, or only some classes hold splits; it gives `source`.
    """
    root = 0
    while len(_names(folders, root)) == 1:
        root += 1
    inside = {parts for parts in folders if len(parts) > root}
    place = "/".join([source, *next(iter(inside), ())[:root]])
    names = sorted(_names(inside, root))
    if splits := splits_among(names, place, by_itself=True):
        return Levels(splits, root, _below_splits(inside, root))
    if splits := _splits_of_classes(inside, root, place):
        return Levels(splits, root + 1, root)
    return Levels({}, root, None if _are_shards(names) else root)


def _names(folders: Iterable[Parts], depth: int) -> set[str]:
    return {parts[depth] for parts in folders if len(parts) > depth}


def _below(folders: set[Parts], depth: int, at: int) -> dict[str, set[str]]:
    """Return the names at a depth that are below each name at another one."""
    below: dict[str, set[str]] = {name: set() for name in _names(folders, depth)}
    for parts in folders:
        if len(parts) > at:
            below[parts[depth]].add(parts[at])
    return below


def _below_splits(folders: set[Parts], split_at: int) -> int | None:
    """Return the depth of classes below splits; a folder that each split holds alone is skipped, and so on inside it.

    It is called alike in all splits, or like the split that it is in.
    """
    depth = split_at + 1
    while True:
        names = _below(folders, split_at, depth)
        every = set[str]().union(*names.values())
        if any(len(each) != 1 for each in names.values()):
            return None if _are_shards(every) else depth
        if len(every) > 1 and any(each != {split} for split, each in names.items()):
            return depth
        depth += 1


def _splits_of_classes(folders: set[Parts], class_at: int, place: str) -> dict[str, Split | None]:
    """Return the splits that each class holds; nothing if none does."""
    found = {
        name: splits_among(sorted(below), f"{place}/{name}", by_itself=False)
        for name, below in sorted(_below(folders, class_at, class_at + 1).items())
    }
    without = [name for name, splits in found.items() if not splits]
    if without and len(without) < len(found):
        raise UserError(
            f"{place}: of the folders there, {shown([name for name in found if name not in without])} hold splits of "
            f"their own, but {shown(without)} not; let each hold train and test, or none, or remove the others"
        )
    return {name: split for splits in found.values() for name, split in splits.items()}


def _are_shards(names: Iterable[str]) -> bool:
    names = set(names)
    return len(names) > 1 and all(name.isascii() and name.isdecimal() and int(name) % SHARD == 0 for name in names)
