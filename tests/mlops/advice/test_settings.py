from dataclasses import replace
from typing import Any

import pytest

from mlops.advice.findings import Findings
from mlops.advice.settings import fitting
from mlops.project.prepared_data import Summary

SUMMARY = Summary("folder", 32, 3, None, 6000, 500, 1000, 0, 0, 0, 0, 0)
FOUND = Findings(SUMMARY, 7500, (), None, None, 0, 200, 0, 0, 0, 0, False)


def fits(found: Findings, *, is_gpu: bool = False) -> dict[str, dict[str, Any]]:
    return fitting(found, size=32, batch_size=64, cores=1, is_gpu=is_gpu)


def of(train: int) -> Findings:
    return replace(FOUND, summary=replace(SUMMARY, train=train))


def test_the_preset_fits_many_large_colour_images_on_one_core() -> None:
    assert fits(FOUND) == {}


@pytest.mark.parametrize(("side", "size"), [(33, None), (32, None), (31, 16), (16, 16), (9, 8), (3, 8)])
def test_images_are_not_enlarged_while_a_smaller_size_is_there(side: int, size: int | None) -> None:
    changes = fits(replace(FOUND, side=side))
    assert changes == ({} if size is None else {"prepare": {"image_size": size}})


def test_a_gpu_gets_more_pixels_if_there_are_images_for_them() -> None:
    assert fits(FOUND, is_gpu=True) == {"prepare": {"image_size": 64}}
    assert fits(of(4999), is_gpu=True) == {}
    assert fits(replace(FOUND, side=63), is_gpu=True) == {}


def test_images_without_colour_get_one_channel() -> None:
    assert fits(replace(FOUND, is_grey=True)) == {"prepare": {"channels": 1}}


@pytest.mark.parametrize("train", [4, 17, 100, 255, 256])
def test_a_batch_is_at_most_a_quarter_of_the_training_images_and_at_least_4(train: int) -> None:
    batch = fits(of(train)).get("train", {}).get("batch_size", 64)
    assert batch <= max(4, train / 4)
    assert batch in (4, 8, 16, 32, 64)
    assert batch == 64 or 2 * batch > train / 4


def test_without_a_gpu_every_core_but_one_trains() -> None:
    for cores, threads in ((3, 2), (64, 8)):
        changes = fitting(FOUND, size=32, batch_size=64, cores=cores, is_gpu=False)
        assert changes == {"compute": {"threads": threads}}
    assert fitting(FOUND, size=32, batch_size=64, cores=2, is_gpu=False) == {}
    assert fitting(of(10), size=32, batch_size=64, cores=2, is_gpu=True) == {"train": {"batch_size": 4}}
