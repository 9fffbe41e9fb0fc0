"""Where images belong by their names: the official split and the class. docs/data.md shows it by examples."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import PurePosixPath

from mlops.images.layout.levels import levels
from mlops.images.layout.split_names import shown
from mlops.images.layout.stylegan_labels import LABELS, labels, labels_file
from mlops.project.errors import UserError
from mlops.project.prepared_data import Split

NO_CLASS = "in no class folder"
OUTSIDE = "outside of the folders of the splits"
UNLISTED = f"not listed in {LABELS}"
Place = tuple[Split | None, str | None, str | None]
"""Official split, class, and why an image is refused even if it can be read."""


@dataclass(frozen=True)
class Layout:
    """Where files belong; `classes` are in label order, or None if they are the names of folders, or if there are none.

    `labels_file` is the name of a file that has the labels, so it is no image. `unlabelled` is the reason why images
    have no labels, if something names two classes or more.
    """

    folders: dict[str, Place]
    labels: dict[str, int] | None = None
    labels_file: str | None = None
    classes: tuple[str, ...] | None = None
    unlabelled: str | None = None

    def place(self, name: str) -> Place:
        """Return where a file of this name belongs."""
        split, class_name, refused = self.folders[folder_of(name)]
        if self.labels is None or refused is not None:
            return split, class_name, refused
        label = self.labels.get(name)
        return (split, None, UNLISTED) if label is None else (split, str(label), None)


def layout(names: list[str], read: Callable[[str, int], bytes], source: str) -> Layout:
    """Return where images belong by their folders.

    Args:
        names: of all images, and of what may list their labels; relative, POSIX.
        read: returns the first bytes, up to a number, of the file of a name.
        source: what an error calls all of it.

    Returns:
        The official split and the class of each.

    Raises:
        UserError: some folders look like splits and are none, a class is in the test split alone, or a file of labels
            is damaged.
    """
    images = [name for name in names if name.rpartition("/")[2] != LABELS]
    counts = Counter(map(folder_of, images))
    depths = levels({PurePosixPath(folder).parts for folder in counts}, source)
    places: dict[str, Place] = {}
    for folder in set(map(folder_of, names)):
        parts = PurePosixPath(folder).parts
        split = depths.split(parts)
        places[folder] = (split, depths.class_name(parts), OUTSIDE if depths.official and split is None else None)
    if (file := labels_file(names, counts)) is not None and (listed := labels(file, read, source)) is not None:
        return _by_list(places, file, listed, images)
    return _by_folders(places, counts, source)


def folder_of(name: str) -> str:
    """Return the folder of a file; empty if it is in none."""
    return name.rpartition("/")[0]


def _without_classes(places: dict[str, Place]) -> dict[str, Place]:
    return {folder: (split, None, refused) for folder, (split, _, refused) in places.items()}


def _by_list(places: dict[str, Place], file: str, listed: dict[str, int], images: list[str]) -> Layout:
    bare, classes = _without_classes(places), {listed[name] for name in images if name in listed}
    if len(classes) < 2:
        return Layout(bare, labels_file=file, unlabelled=f"{LABELS} lists {len(classes)} classes")
    return Layout(bare, listed, file, tuple(map(str, sorted(classes))))


def _by_folders(places: dict[str, Place], counts: Counter[str], source: str) -> Layout:
    found = Counter[tuple[Split | None, str | None]]()
    for folder, count in counts.items():
        split, class_name, refused = places[folder]
        if refused is None:
            found[split, class_name] += count
    outside = sum(count for (_, class_name), count in found.items() if class_name is None)
    if len({class_name for _, class_name in found if class_name is not None}) < 2:
        return Layout(_without_classes(places))
    if 2 * outside > found.total():
        why = f"{outside:,} of {found.total():,} images are {NO_CLASS}"
        return Layout(_without_classes(places), unlabelled=why)
    tested = {class_name for split, class_name in found if split == "test" and class_name is not None}
    if missing := sorted(tested - {class_name for split, class_name in found if split == "train"}):
        raise UserError(
            f"{source}: the test split has class folders that the training split has not: {shown(missing)}; name "
            "classes alike in all splits, or remove folders that are no classes"
        )
    classless = {folder: (*place[:2], place[2] or NO_CLASS) for folder, place in places.items() if place[1] is None}
    return Layout(places | classless)
