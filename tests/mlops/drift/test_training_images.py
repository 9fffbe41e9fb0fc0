from dataclasses import replace
from pathlib import Path

import pytest

from gan_core.config import ComputeConfig
from mlops.drift.training_images import measured, sentence
from mlops.project.errors import UserError
from mlops.project.params import Params
from mlops.project.prepared_data import load_summary, save_summary

COMPUTE = ComputeConfig("cpu", 1)


@pytest.fixture(scope="module")
def extractor(prepared: Path, committed: Params, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from stages.extractor import extractor

    folder = tmp_path_factory.mktemp("drift") / "extractor"
    extractor(prepared, folder, compute=COMPUTE, extractor=replace(committed.extractor, epochs=1))
    return folder


def test_the_former_images_have_not_drifted(prepared: Path, extractor: Path) -> None:
    found = measured(prepared, extractor, prepared, COMPUTE)
    assert found.images == load_summary(prepared).train // 2
    assert found.mean == pytest.approx(sum(found.by_chance) / len(found.by_chance), rel=0.2)
    assert "are like the former ones" in sentence(found) or not found.exceeds_chance


def test_images_of_another_shape_are_not_measured(prepared: Path, extractor: Path, tmp_path: Path) -> None:
    save_summary(tmp_path, replace(load_summary(prepared), size=16))
    with pytest.raises(UserError, match=r"8 pixels.* 16 pixels"):
        measured(prepared, extractor, tmp_path, COMPUTE)
