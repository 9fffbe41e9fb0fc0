import pandas as pd

from mlops.images.decoding import Row
from mlops.images.manifest import COLUMN_TYPES, manifest, summarize, untrained
from mlops.project.prepared_data import Split


def row(source: str, split: Split | None, sha256: str | None, class_name: str | None = None) -> Row:
    if split is None:
        return Row(source, None, class_name, None, None, None, "empty file")
    return Row(source, split, class_name, 5, 7, sha256, None)


def frame_of(rows: list[Row]) -> pd.DataFrame:
    """Return rows as `prepare` reads them."""
    return pd.DataFrame(rows, columns=Row._fields).astype(
        dict.fromkeys(("class_name", "sha256", "refused", "note"), "str")
    )


ROWS = [
    row("1", "train", "a", "dog"),
    row("2", "test", "a", "cat"),
    row("3", None, None, "zebra"),
    row("4", "train", "b", "cat"),
    row("5", "train", "a", "dog"),
    row("6", "test", "c", "dog"),
    row("7", "test", "a", "dog"),
    row("8", "test", "c", "dog"),
]


def column(frame: pd.DataFrame, name: str) -> list[object]:
    return [None if pd.isna(value) else value for value in frame[name]]


def test_columns_are_those_that_are_promised() -> None:
    frame, _ = manifest(frame_of(ROWS), None)
    assert {name: str(kind) for name, kind in frame.dtypes.items()} == COLUMN_TYPES
    assert column(frame, "source") == list("12345678")


def test_the_index_counts_the_accepted_images_of_each_split() -> None:
    frame, _ = manifest(frame_of(ROWS), None)
    assert column(frame, "index") == [0, 0, None, 1, 2, 1, 2, 3]


def test_duplicates_point_to_the_first_image_with_these_pixels() -> None:
    frame, _ = manifest(frame_of(ROWS), None)
    assert column(frame, "duplicate_of") == [None, "1", None, None, "1", None, "1", "6"]


def test_duplicates_and_leaks_are_counted_apart() -> None:
    more = [row("9", "test", "a", "dog"), *(row(f"v{n}", "validation", sha, "dog") for n, sha in enumerate("bbd"))]
    frame, classes = manifest(frame_of([*ROWS, *more]), None)
    summary = summarize(frame, name="folder", size=8, channels=1, classes=classes)
    assert (summary.train, summary.validation, summary.test, summary.refused) == (3, 3, 5, 1)
    assert (summary.duplicates_train, summary.duplicates_validation, summary.duplicates_test) == (1, 1, 3)
    assert summary.leaks == 5  # three of the test images, two of the validation images


def test_class_folders_of_accepted_images_are_the_classes_sorted() -> None:
    frame, classes = manifest(frame_of(ROWS), None)
    assert classes == ["cat", "dog"]  # nothing of the zebra was accepted
    assert column(frame, "label") == [1, 0, None, 0, 1, 1, 1, 1]
    assert column(frame, "class_name")[2] == "zebra"


def test_published_classes_keep_their_order_even_unused() -> None:
    frame, classes = manifest(frame_of(ROWS), ("dog", "horse", "cat"))
    assert classes == ["dog", "horse", "cat"]
    assert column(frame, "label") == [0, 2, None, 2, 0, 0, 0, 0]


def test_one_image_without_a_class_or_one_class_for_all_means_no_labels() -> None:
    for rows in ([*ROWS, row("9", "train", "d")], [one for one in ROWS if one.class_name == "dog"]):
        frame, classes = manifest(frame_of(rows), None)
        assert classes is None
        assert set(column(frame, "label")) == {None}


def test_a_refused_image_without_a_class_does_not_take_the_labels_away() -> None:
    assert manifest(frame_of([*ROWS, row("notes.txt", None, None)]), None)[1] == ["cat", "dog"]


def test_nothing_but_refused_images_is_a_table_too() -> None:
    frame, classes = manifest(frame_of([row("1", None, None)]), None)
    assert classes is None
    assert len(frame) == 1


def test_notes_are_a_column_only_if_there_is_one() -> None:
    frame, _ = manifest(frame_of([*ROWS[:3], ROWS[3]._replace(note="odd")]), None)
    assert {name: str(kind) for name, kind in frame.dtypes.items()} == COLUMN_TYPES | {"note": "str"}
    assert column(frame, "note") == [None, None, None, "odd"]


def test_classes_without_a_training_image_are_named() -> None:
    rows = [*ROWS, row("9", "test", "d", "emu"), row("10", "validation", "e", "yak"), row("11", None, None, "fox")]
    assert untrained(manifest(frame_of(rows), None)[0]) == ["emu", "yak"]
    assert untrained(manifest(frame_of(ROWS), None)[0]) == []
    assert untrained(manifest(frame_of(ROWS[:1]), None)[0]) == []
