import pytest

from mlops.images.layout.levels import Levels, levels
from mlops.project.errors import UserError


def of(*folders: str) -> Levels:
    return levels({tuple(folder.split("/")) for folder in folders}, "here")


def test_folders_that_hold_everything_are_skipped() -> None:
    assert of("a/b/cat", "a/b/dog/x", "a") == Levels({}, 2, 2)
    assert of("a/b/c") == Levels({}, 3, 3)
    assert levels({()}, "here") == levels(set(), "here") == Levels({}, 0, 0)


def test_a_folder_alone_in_each_split_is_skipped_if_its_name_tells_nothing() -> None:
    splits = {"train": "train", "test": "test"}
    assert of("train/images/cat", "train/images/dog", "test/images/cat") == Levels(splits, 0, 2)  # type: ignore[arg-type]
    assert of("train/train/x/cat", "train/train/x/dog", "test/test/x/cat") == Levels(splits, 0, 3)  # type: ignore[arg-type]
    assert of("train/cat", "test/dog") == Levels(splits, 0, 1)  # type: ignore[arg-type]
    assert of("train/images", "train/masks", "test/images") == Levels(splits, 0, 1)  # type: ignore[arg-type]


@pytest.mark.parametrize("shards", [["00000", "01000"], ["0", "1000", "69000"]])
def test_shards_are_no_classes_in_splits_and_out_of_them(shards: list[str]) -> None:
    assert of(*shards).class_at is None
    assert of(*(f"{split}/{shard}" for split in ("train", "test") for shard in shards)).class_at is None
    assert of(*shards, "00500").class_at == 0


def test_what_is_outside_of_splits_has_none() -> None:
    found = of("cat/train", "cat/test", "dog/train", "dog/test", "dog")
    assert (found.split_at, found.class_at, found.official) == (1, 0, True)
    assert [found.split(parts) for parts in (("cat", "test", "x"), ("dog",), ())] == ["test", None, None]
    assert [found.class_name(parts) for parts in (("cat", "test", "x"), ("dog",), ())] == ["cat", "dog", None]


def test_only_some_classes_that_hold_splits_are_named() -> None:
    with pytest.raises(UserError, match=r"^here/root: .*\bcat\b.* but dog, emu not; "):
        of("root/cat/train", "root/cat/test", "root/dog/train", "root/emu")
