import hashlib
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from mlops.images.decoding import Decoded, Recipe, Row, decoded, drawn_split, numbered
from mlops.images.memory import Reserve
from mlops.images.originals import Loaded, Original
from mlops.images.pixels import RefusedError
from mlops.project.errors import UserError
from mlops.project.prepared_data import Split

RECIPE = Recipe(size=8, channels=1, fit="crop", seed=0, test_share=0.25, validation_share=0.1, official_train=0)


@dataclass(frozen=True)
class Pictures:
    """A chunk of grey images of 8 x 8 pixels; None is a file that was refused."""

    contents: list[bytes | None]
    split: Split | None = None

    def __len__(self) -> int:
        return len(self.contents)

    def originals(self) -> Iterator[Original]:
        for number, content in enumerate(self.contents):
            yield Original(f"#{number}", self.split, "cat", partial(loaded, content))


def loaded(content: bytes | None, _: Reserve) -> Loaded:
    if content is None:
        raise RefusedError("empty file")
    return Image.frombytes("L", (8, 8), content), None


def rows_of(found: Decoded) -> list[Row]:
    return [Row(*row) for row in zip(*found.columns, strict=True)]


@given(st.binary(), st.integers(0, 2**31), st.floats(0.01, 0.99), st.floats(0.01, 0.99))
def test_a_larger_share_only_adds_to_the_test_split(content: bytes, seed: int, one: float, other: float) -> None:
    small, large = sorted([one, other])
    if drawn_split(content, seed=seed, test_share=small, validation_share=0.1) == "test":
        assert drawn_split(content, seed=seed, test_share=large, validation_share=0.1) == "test"


@pytest.mark.parametrize("test", [0.0, 0.1, 0.5, 0.9])
@pytest.mark.parametrize("validation", [0.1, 0.6])
@pytest.mark.parametrize("seed", [0, 7])
def test_shares_are_those_that_were_asked_for(test: float, validation: float, seed: int) -> None:
    splits = [
        drawn_split(bytes([n % 256, n // 256]), seed=seed, test_share=test, validation_share=validation)
        for n in range(5000)
    ]
    for split, share in (("test", test), ("validation", (1 - test) * validation)):
        assert abs(splits.count(split) / 5000 - share) <= 4 * (share * (1 - share) / 5000) ** 0.5  # type: ignore[arg-type]


def test_seeds_draw_other_splits() -> None:
    def drawn(seed: int) -> list[str]:
        return [drawn_split(bytes([n]), seed=seed, test_share=0.5, validation_share=1e-9) for n in range(256)]

    assert 90 < sum(one == other for one, other in zip(drawn(1), drawn(11), strict=True)) < 166


Raising = Callable[[Exception], Pictures]


@pytest.fixture
def raising(monkeypatch: pytest.MonkeyPatch) -> Raising:
    """Return a function that returns a chunk of one image, at whose pixels an error is raised."""

    def chunk(error: Exception) -> Pictures:
        def fail(*_: object, **__: object) -> None:
            raise error

        monkeypatch.setattr("mlops.images.decoding.pixels", fail)
        return Pictures([bytes(64)])

    return chunk


pictures = st.lists(st.binary(min_size=64, max_size=64), min_size=1, max_size=12)


@given(pictures, pictures)
@settings(max_examples=30, deadline=None)
def test_more_images_move_no_other_and_equal_ones_stay_together(first: list[bytes], more: list[bytes]) -> None:
    def splits(found: list[bytes]) -> dict[bytes, set[str | None]]:
        rows = rows_of(decoded((0, Pictures([*found])), RECIPE))
        result: dict[bytes, set[str | None]] = {content: set() for content in found}
        for row, content in zip(rows, found, strict=True):
            result[content].add(row.split)
        return result

    before, after = splits(first), splits([*more, *first, *more])
    assert all(len(found) == 1 for found in after.values())
    assert before.items() <= after.items()


def test_rows_say_where_the_pixels_are_and_refused_files_have_none() -> None:
    contents = [bytes([n]) * 64 for n in range(40)]
    found = decoded((0, Pictures([*contents[:20], None, *contents[20:]])), RECIPE)
    rows = rows_of(found)
    assert rows[20] == Row("#20", None, "cat", None, None, None, "empty file")
    del rows[20]
    for split, pixels in found.pixels.items():
        expected = b"".join(content for row, content in zip(rows, contents, strict=True) if row.split == split)
        assert pixels == expected
    assert [row.sha256 for row in rows] == [hashlib.sha256(content).hexdigest() for content in contents]
    assert {(row.width, row.height, row.refused) for row in rows} == {(8, 8, None)}


@pytest.mark.parametrize("first", [0, 3, 8])
def test_the_last_of_a_published_training_split_are_validation_in_any_chunk(first: int) -> None:
    recipe = replace(RECIPE, official_train=10, validation_share=0.2)
    rows = rows_of(decoded((first, Pictures([bytes(64)] * (10 - first), "train")), recipe))
    assert [row.split for row in rows] == [*["train"] * (8 - first), *["validation"] * 2]
    assert [row.split for row in rows_of(decoded((10, Pictures([bytes(64)], "test")), recipe))] == ["test"]


def test_a_train_folder_of_a_user_is_split_into_training_and_validation_only() -> None:
    contents: list[bytes | None] = [bytes(pixel) for pixel in np.random.default_rng(0).integers(0, 256, (200, 64))]
    splits = [row.split for row in rows_of(decoded((0, Pictures(contents, "train")), RECIPE))]
    assert 4 <= splits.count("validation") <= 38  # 20 expected; four standard deviations
    assert splits.count("test") == 0


def test_chunks_are_numbered_by_their_first_image() -> None:
    chunks = [Pictures([b""] * count) for count in (3, 1, 2)]
    assert [number for number, _ in numbered(iter(chunks), 5)] == [5, 8, 9]


@pytest.mark.parametrize(
    "error", [ValueError("a\nb"), RecursionError(), struct.error("c"), ZeroDivisionError()], ids=repr
)
def test_whatever_a_library_raises_refuses_one_image_with_a_reason(error: Exception, raising: Raising) -> None:
    (row,) = rows_of(decoded((0, raising(error)), RECIPE))
    assert row.refused == f"unreadable: {' '.join(str(error).split()) or type(error).__name__}"


@pytest.mark.parametrize("error", [MemoryError(), UserError("#0 was cut off; run again")], ids=repr)
def test_what_another_run_may_not_raise_refuses_no_image(error: Exception, raising: Raising) -> None:
    with pytest.raises(UserError, match=r"#0.*run again"):
        decoded((0, raising(error)), RECIPE)
