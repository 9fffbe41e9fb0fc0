import io
import itertools
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mlops.images.layout.layout import NO_CLASS, UNLISTED, layout
from mlops.images.readers import read
from mlops.project.errors import UserError
from mlops.project.params import DataConfig
from stages.fetch import fetch
from tests.mlops.images.decoded import Read, decoded

DOCS = Path(__file__).parents[4] / "docs" / "data.md"
IMAGES = (".png", ".jpg")


def table() -> dict[str, list[str]]:
    """Return the table of layouts in the docs: the other cells of a row by its first."""
    lines = DOCS.read_text().split("| layout | files |", 1)[1].split("\n\n", 1)[0].splitlines()[2:]
    rows = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]
    return {row[0]: [*row[1:], ""][:4] for row in rows}


TABLE = table()


def spans(cell: str) -> list[str]:
    """Return what stands in backquotes."""
    return re.findall("`([^`]+)`", cell)


def expanded(pattern: str) -> list[str]:
    """Return the paths of a pattern as a shell does: `{a,b}/c` is a/c and b/c."""
    parts = [part.split(",") for part in re.split(r"[{}]", pattern)]
    return ["".join(chosen) for chosen in itertools.product(*parts)]


def picture(seed: int) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (4, 4), np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def build(folder: Path, cell: str) -> Path:
    """Write the files of a row: three images for a folder, an image or some text for a file."""
    names: list[str] = []
    for path in itertools.chain.from_iterable(map(expanded, spans(cell.replace("dataset.json: null", "null.json")))):
        names += [f"{path}{number}.png" for number in range(3)] if path.endswith("/") else [path]
    for seed, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(picture(seed) if name.endswith(IMAGES) else b"no picture")
    listed = [[name, 3 + seed % 2 * 3] for seed, name in enumerate(names) if name.endswith(IMAGES)]
    if "dataset.json" in names:
        (folder / "dataset.json").write_text(json.dumps({"labels": listed}))
    if "null.json" in names:
        (folder / "null.json").unlink()
        (folder / "dataset.json").write_text(json.dumps({"labels": None}))
    return folder


def originals(root: Path) -> list[Read]:
    """Return the images that `fetch` packs of the folder `source`, as `prepare` reads them."""
    fetch(root / "raw", data=DataConfig("folder", str(root / "source")))
    chunks = read(root / "raw", "folder").chunks(0, 256)
    return [decoded(original) for chunk in chunks for original in chunk.originals()]


def test_the_table_has_the_layouts_that_people_have() -> None:
    assert len(TABLE) >= 35
    assert sum(splits == "asked about" for _, splits, *_ in TABLE.values()) >= 6


@pytest.mark.parametrize("name", [name for name, row in TABLE.items() if row[1] != "asked about"])
def test_a_layout_is_understood_as_the_docs_have_it(tmp_path: Path, name: str) -> None:
    files, splits, classes, refused = TABLE[name]
    build(tmp_path / "source", files)
    found = originals(tmp_path)
    accepted = [original for original in found if original.refused is None]
    assert {original.source for original in found if original.refused is not None} == set(spans(refused))
    assert len(accepted) >= 3
    assert {original.class_name for original in accepted} == ({*spans(classes)} if spans(classes) else {None})
    folders: Any = {split: spans(each) for split, _, each in (part.partition(":") for part in splits.split(";"))}
    official = {split.strip(): each for split, each in folders.items() if each}
    assert bool(official) == (splits != "by pixels")
    for original in accepted:
        top = set(original.source.split("/"))
        assert original.split == next((split for split, each in official.items() if top & set(each)), None)
        assert original.class_name is None or original.class_name in {*top, "3", "6"}
    assert {str(original.split) for original in accepted} | {"test"} >= set(official)


@pytest.mark.parametrize("name", [name for name, row in TABLE.items() if row[1] == "asked about"])
def test_what_looks_like_splits_and_is_none_is_asked_about(tmp_path: Path, name: str) -> None:
    build(tmp_path / "source", TABLE[name][0])
    with pytest.raises(UserError) as caught:
        originals(tmp_path)
    folders = {"tiny-imagenet": ["images"], "MVTec with masks": ["train", "test", "ground_truth"]}
    level = {path.strip("/").split("/")[-1] for pattern in spans(TABLE[name][0]) for path in expanded(pattern)}
    for folder in folders.get(name, level - {"sea"}):
        assert folder in str(caught.value)
    assert str(tmp_path / "source") in str(caught.value)
    assert list((tmp_path / "raw").iterdir()) == []  # it was asked before anything was packed


def no_content(name: str, most: int) -> bytes:
    raise AssertionError(name)


def test_the_order_of_names_changes_nothing() -> None:
    names = ["train/cat/1.JPG", "train/dog/1.jpeg", "test/cat/1", "test/dog/1.webp"]
    for some in (names, names[::-1]):
        where = layout(some, no_content, "here")
        assert where.place("test/cat/1") == ("test", "cat", None)
        assert where.place("train/dog/1.jpeg") == ("train", "dog", None)


def test_half_of_the_images_in_no_class_folder_are_refused_and_more_take_the_labels_away() -> None:
    names = ["cat/1.png", "dog/1.png", "1.png", "2.png"]
    where = layout(names, no_content, "here")
    assert (where.place("1.png"), where.place("cat/1.png")) == ((None, None, NO_CLASS), (None, "cat", None))
    where = layout([*names, "3.png"], no_content, "here")
    assert (where.place("1.png"), where.place("cat/1.png")) == ((None, None, None), (None, None, None))
    assert where.unlabelled is not None
    assert "3 of 5" in where.unlabelled


def test_a_class_of_the_test_split_alone_is_named() -> None:
    names = ["train/cat/1.png", "train/dog/1.png", "test/cat/1.png", "test/Dog/1.png"]
    with pytest.raises(UserError, match=r"here: .*\bDog\b"):
        layout(names, no_content, "here")
    assert layout([name for name in names if "Dog" not in name], no_content, "here").unlabelled is None


def test_an_image_that_stylegans_file_does_not_list_is_refused_by_name(tmp_path: Path) -> None:
    listed = {"labels": [["00000/1.png", 12], ["00000/2.png", 7], ["00001/3.png", 12], ["gone.png", 1]]}
    for name in ("00000/1.png", "00000/2.png", "00001/3.png", "00001/4.png"):
        (tmp_path / "source" / "root" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "source" / "root" / name).write_bytes(picture(0))
    (tmp_path / "source" / "root" / "dataset.json").write_text(json.dumps(listed))
    found = originals(tmp_path)
    assert [(each.class_name, each.refused) for each in found] == [
        ("12", None),
        ("7", None),
        ("12", None),
        (None, UNLISTED),
    ]
    assert read(tmp_path / "raw", "folder").classes == ("7", "12")  # in the order of numbers
    assert read(tmp_path / "raw", "folder").total == 4
