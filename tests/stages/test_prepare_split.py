from collections.abc import Iterable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from stages.formats import Original, Originals
from stages.params import PrepareConfig
from stages.prepare import _write_images, drawn_split

CONFIG = PrepareConfig(
    image_size=8, channels=1, fit="crop", test_share=0.25, validation_share=0.1, max_refused_share=0.01, seed=0
)


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


def originals(pictures: Iterable[bytes]) -> Originals:
    found = [
        Original(f"#{number}", None, None, Image.frombytes("L", (8, 8), content), None)
        for number, content in enumerate(pictures)
    ]
    return Originals(len(found), 0, None, found)


pictures = st.lists(st.binary(min_size=64, max_size=64), min_size=1, max_size=12)


@given(pictures, pictures)
@settings(max_examples=30, deadline=None)
def test_more_images_move_no_other_and_equal_ones_stay_together(
    tmp_path_factory: pytest.TempPathFactory, first: list[bytes], more: list[bytes]
) -> None:
    def splits(found: list[bytes]) -> dict[bytes, set[str | None]]:
        rows = _write_images(originals(found), tmp_path_factory.mktemp("out"), CONFIG)
        result: dict[bytes, set[str | None]] = {content: set() for content in found}
        for row, content in zip(rows, found, strict=True):
            result[content].add(row.split)
        return result

    before, after = splits(first), splits([*more, *first, *more])
    assert all(len(found) == 1 for found in after.values())
    assert before.items() <= after.items()
