import pytest

from mlops.images.layout.split_names import Meaning, meaning, splits_among
from mlops.project.errors import UserError


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        *((name, ("train", ())) for name in ("train", "Train", "TRAINING", "training_set", "train set", "trainset")),
        *(
            (name, ("train", ()))
            for name in ("train2017", "train-1", "TrainImages", "train_val", "trainval", "data.train")
        ),
        *((name, ("test", ())) for name in ("test", "Testing", "test1", "TestSet", "val", "valid", "VALID", "val2017")),
        *((name, ("test", ())) for name in ("validation-set", "dev", "devset", "eval", "test_data", "test_val")),
        *((name, ("train", ("seg",))) for name in ("seg_train", "train-seg", "SegTrain")),
        *((name, ("train", ("a",))) for name in ("trainA", "train_A")),
        ("fold1_test", ("test", ("fold1",))),
        *(
            (name, None)
            for name in ("cat", "trains", "trainer", "tested", "valley", "device", "train_test", "", "2017", "set")
        ),
    ],
)
def test_the_usual_names_of_splits_are_understood(name: str, meant: Meaning | None) -> None:
    assert meaning(name) == meant


@pytest.mark.parametrize("by_itself", [True, False])
def test_splits_are_a_training_and_a_held_out_one_of_one_kind(by_itself: bool) -> None:
    found = splits_among(["Train", "dev", "test1"], "here", by_itself=by_itself)
    assert found == {"Train": "train", "dev": "test", "test1": "test"}
    assert splits_among(["cats", "dogs"], "here", by_itself=by_itself) == {}
    assert splits_among([], "here", by_itself=by_itself) == {}
    assert splits_among(["train_station", "test_tube"], "here", by_itself=by_itself) == {}
    for names in (["seg_train", "seg_test", "seg_pred"], ["fold1_train", "fold1_test", "fold2_train", "fold2_test"]):
        with pytest.raises(UserError, match=r"^here: .*_train, .*; "):
            splits_among(names, "here", by_itself=by_itself)


@pytest.mark.parametrize("names", [["bus", "train"], ["test", "val"], ["trainA", "trainB"], ["valid", "invalid"]])
def test_one_that_looks_like_a_split_is_asked_about_only_outside_of_classes(names: list[str]) -> None:
    assert splits_among(names, "here", by_itself=False) == {}
    with pytest.raises(UserError, match=names[0] if names[0] != "bus" else "train"):
        splits_among(names, "here", by_itself=True)


def test_parts_of_a_training_split_are_one_without_an_official_split() -> None:
    assert splits_among(["train_1", "train_2"], "here", by_itself=True) == {"train_1": None, "train_2": None}


def test_an_error_lists_some_of_many_folders() -> None:
    with pytest.raises(UserError, match=r"\btrain\b.* class09 and 90 more "):
        splits_among(["train", *(f"class{number:02}" for number in range(100))], "here", by_itself=True)
