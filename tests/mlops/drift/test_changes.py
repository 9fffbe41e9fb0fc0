import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlops.drift.changes import MOST_CLASSES, Changes, changes, table

PIXELS = st.dictionaries(st.sampled_from("abcdefgh"), st.sampled_from("0123"))


def manifest(
    images: dict[str, str], refused: tuple[str, ...] = (), classes: dict[str, str] | None = None
) -> pd.DataFrame:
    rows = [
        {"source": name, "sha256": sha256, "split": "train", "width": 8, "height": 10, "refused": None}
        | {"class_name": (classes or {}).get(name)}
        for name, sha256 in images.items()
    ]
    rows += [{"source": name, "sha256": None, "refused": "no image"} for name in refused]
    kinds = {"width": "Int64", "height": "Int64"} | dict.fromkeys(
        ("source", "sha256", "split", "refused", "class_name"), "str"
    )
    return pd.DataFrame(rows, columns=list(kinds)).astype(kinds)


def test_each_kind_of_change_is_counted() -> None:
    former = manifest({"kept": "1", "changed": "2", "removed": "3", "moved": "4"}, refused=("broken",))
    new = manifest({"kept": "1", "changed": "20", "new": "5", "elsewhere": "4", "broken": "6"})
    assert changes(former, new) == Changes(added=3, removed=2, changed=1, renamed=1)


@given(before=PIXELS, after=PIXELS)
def test_there_and_back_adds_what_was_removed_and_counts_agree(before: dict[str, str], after: dict[str, str]) -> None:
    there, back = changes(manifest(before), manifest(after)), changes(manifest(after), manifest(before))
    assert (there.added, there.removed, there.changed) == (back.removed, back.added, back.changed)
    assert len(before) + there.added - there.removed == len(after)
    assert there.renamed <= there.added


def test_the_table_has_counts_sizes_and_the_classes_that_changed_most_first() -> None:
    names = {f"{number}": f"{number:03}" for number in range(MOST_CLASSES + 2)}
    former = manifest({name: name for name in names}, refused=("x",), classes=names)
    new = manifest({name: name for name in [*names, "y", "z"]}, classes=names | {"y": "007", "z": "new"})
    rows = {
        cells[1].strip(): [cell.strip() for cell in cells[2:4]]
        for line in table(former, new).splitlines()
        if (cells := line.split("|"))
    }
    count = len(names)
    assert rows["images"] == rows["train"] == [str(count), str(count + 2)]
    assert rows["refused files"] == ["1", "0"]
    assert rows["median width x height"] == ["8 x 10", "8 x 10"]
    assert rows["class 007"] == ["1", "2"]
    assert rows["class new"] == ["0", "1"]
    assert sum(name.startswith("class ") for name in rows) == MOST_CLASSES
    assert "3 more classes" in rows


@pytest.mark.parametrize(("count", "words"), [(1, "1 image added"), (1200, "1,200 images added")])
def test_changes_are_told_in_words(count: int, words: str) -> None:
    assert str(Changes(count, 0, 0, 0)).startswith(words)
