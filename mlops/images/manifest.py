"""The table behind prepared data: one row for each source image, and what can be counted in it."""

from typing import get_args

import pandas as pd

from mlops.project.prepared_data import Split, Summary

COLUMN_TYPES = {
    "source": "str",
    "split": "str",
    "index": "Int64",
    "label": "Int64",
    "class_name": "str",
    "width": "Int64",
    "height": "Int64",
    "sha256": "str",
    "refused": "str",
    "duplicate_of": "str",
}
"""Of manifest.parquet, in order; every column but `source` may be null. `note` follows if an image has one."""


def manifest(rows: pd.DataFrame, published: tuple[str, ...] | None) -> tuple[pd.DataFrame, list[str] | None]:
    """Return the table of all images, in the order of `rows`, and the names of the classes in label order.

    `rows` has the columns of `mlops.images.decoding.Row`, the table those of `COLUMN_TYPES`, of which `index` is the
    position in the array of the split. Without published classes they are the class folders, sorted, if each accepted
    image is in one of two or more; otherwise they are None, and there are no labels.
    """
    accepted = rows[rows["refused"].isna()]
    classes = list(published) if published is not None else _folder_classes(accepted["class_name"])
    codes = {name: label for label, name in enumerate(classes or [])}
    # Refused images have neither index nor label.
    columns = {"index": accepted.groupby("split").cumcount(), "label": accepted["class_name"].map(codes)}
    copies = accepted[accepted["sha256"].duplicated()]
    originals = accepted[accepted["sha256"].isin(copies["sha256"])].drop_duplicates("sha256").set_index("sha256")
    columns["duplicate_of"] = copies["sha256"].map(originals["source"])
    kinds = COLUMN_TYPES | ({"note": "str"} if rows["note"].notna().any() else {})
    return rows.assign(**columns)[list(kinds)].astype(kinds), classes


def _folder_classes(names: pd.Series) -> list[str] | None:
    if names.isna().any() or names.nunique() < 2:
        return None
    return sorted(names.unique())


def untrained(frame: pd.DataFrame) -> list[str]:
    """Return the classes of which a manifest has images, but no training images."""
    names = frame.loc[frame["label"].notna(), ["split", "class_name"]]
    return sorted(set(names["class_name"]) - set(names.loc[names["split"].eq("train"), "class_name"]))


def summarize(frame: pd.DataFrame, *, name: str, size: int, channels: int, classes: list[str] | None) -> Summary:
    """Return the counts of a manifest, beside what else `summary.json` holds."""
    copies = frame.loc[frame["duplicate_of"].notna(), "sha256"]
    repeated = frame[frame["sha256"].isin(copies)]  # nothing else can be a duplicate or a leak
    train, validation, test = (repeated.loc[repeated["split"].eq(split), "sha256"] for split in get_args(Split))
    return Summary(
        name=name,
        size=size,
        channels=channels,
        classes=classes,
        train=int(frame["split"].eq("train").sum()),
        validation=int(frame["split"].eq("validation").sum()),
        test=int(frame["split"].eq("test").sum()),
        refused=int(frame["refused"].notna().sum()),
        duplicates_train=int(train.duplicated().sum()),
        duplicates_validation=int(validation.duplicated().sum()),
        duplicates_test=int(test.duplicated().sum()),
        leaks=int(validation.isin(train).sum() + test.isin(train).sum()),
    )
