from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from benchmarks.harness.recipe_cells import Budget, Cell
from benchmarks.harness.recipe_data import CANDIDATES, Data, data_values, recipe
from benchmarks.recipes import _columns, _rows, table
from mlops.project.errors import UserError
from mlops.project.prepared_data import load_images, load_labels
from mlops.project.presets import PRESETS

ROOT = Path(__file__).resolve().parents[2]


def facts(fid: float | None) -> dict[str, Any]:
    """Return what a cell measured, of which the FID matters."""
    scores = {} if fid is None else {"fid": fid, "mind": 1.0, "near_copies": 0.0, "fid_of_training_images": 2.0}
    counts = dict.fromkeys(("generator_parameters", "discriminator_parameters", "steps", "seconds"), 10)
    return scores | counts | {"images_per_second": 1.0, "verdict": "healthy"}


def test_ratios_are_means_of_those_under_each_seed() -> None:
    results = {
        "dcgan-64": [facts(10.0), facts(40.0)],
        "ours": [facts(5.0), facts(10.0)],
        "dead": [facts(1), facts(None)],
    }
    columns = _columns(results)
    real = {"fid": 0.5, "mind": 0.1, "near_copies": 0.02, "fid_of_training_images": 0.4}
    rows = {row[0]: dict(zip(columns, row, strict=True)) for row in _rows(results, real)}
    ratio = "ratio to dcgan-64"
    assert rows["ours"][ratio].startswith("0.38 (")  # (1/2 + 1/4) / 2, not 15/50
    assert rows["dcgan-64"][ratio] == "1.00"
    assert (rows["dead"]["FID"], rows["dead"][ratio]) == ("-", "-")
    assert "ratio to sngan-32" not in columns
    assert rows["real images"] == dict.fromkeys(columns, "") | {
        "recipe": "real images",
        "FID": "0.50",
        "MIND": "0.10",
        "near-copies": "2.0%",
        "FID of training images": "0.40",
    }


def test_every_recipe_fits_images_of_another_size_and_channels(tmp_path: Path) -> None:
    values = data_values(None, size=32, threads=2)
    candidates = yaml.safe_load((ROOT / CANDIDATES).read_text())
    for name in [*candidates, *(path.stem for path in (ROOT / PRESETS).glob("*.yaml"))]:
        params = recipe(name, values, tmp_path / f"{name}.yaml")
        assert (params.data.name, params.prepare.image_size, params.prepare.channels) == ("mnist", 32, 1)
        assert (params.compute.threads, params.extractor.kind) == (2, "auto")
    with pytest.raises(UserError, match="there is no recipe other"):
        recipe("other", values, tmp_path / "other.yaml")


def test_a_cell_of_other_data_numbers_or_budget_has_files_of_its_own(tmp_path: Path) -> None:
    values = data_values(None, size=32, threads=1)
    params = recipe("dcgan-64", values, tmp_path / "recipe.yaml")
    cell = Cell("one", params, 0, Data(tmp_path, tmp_path, "a" * 32), Budget(600.0, None, 100))
    others = [
        replace(cell, seed=1),
        replace(cell, data=replace(cell.data, md5="b" * 32)),
        replace(cell, budget=replace(cell.budget, seconds=60.0)),
        replace(cell, budget=replace(cell.budget, scored=99)),
        replace(cell, recipe=replace(params, train=replace(params.train, beta1=0.1))),
    ]
    assert len({cell.stem(), *(other.stem() for other in others)}) == 1 + len(others)
    assert replace(cell, data=replace(cell.data, prepared=tmp_path / "moved")).stem() == cell.stem()


@pytest.mark.slow
def test_recipes_are_trained_scored_and_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    monkeypatch.setattr("benchmarks.recipes.in_own_process", lambda function, *arguments: function(*arguments))
    rng = np.random.default_rng(0)
    for number in range(120):
        place = tmp_path / "pictures" / ("light" if number % 2 else "dark") / f"{number}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 128, (8, 8, 3), np.uint8) + np.uint8(127 * (number % 2))).save(place)
    patch = tmp_path / "small.yaml"
    patch.write_text(
        "network: {conditional: true, generator_width: 8, discriminator_width: 8}\ntrain: {batch_size: 4}\n"
    )
    out = tmp_path / "out"
    command = [str(tmp_path / "pictures"), "--presets", str(patch), "--steps", "2", "--seeds", "2", "--size", "8"]
    command += ["--train-images", "60", "--out", str(out)]
    first = table(*command)
    assert [row[0] for row in first.rows] == ["small", "real images"]
    cells = sorted(out.glob("small-seed*.json"))
    assert len(cells) == 2
    assert all(cell.with_suffix(suffix).is_file() for cell in cells for suffix in (".png", ".safetensors"))
    (prepared,) = out.glob("data/*/prepared")
    (whole,) = out.glob("data/*/whole")
    assert len(load_images(prepared, "train")) == 60
    held_out = {image.tobytes() for image in load_images(prepared, "test")}
    trained = {image.tobytes() for image in load_images(prepared, "train")}
    assert not held_out & trained
    assert held_out | trained == {image.tobytes() for split in ("train", "test") for image in load_images(whole, split)}
    labels = load_labels(prepared, "train")
    assert labels is not None
    assert np.array_equal(labels == 1, load_images(prepared, "train").mean(axis=(1, 2, 3)) > 127)
    capsys.readouterr()
    written = [cell.stat().st_mtime_ns for cell in cells]
    assert table(*command).rows == first.rows
    assert [cell.stat().st_mtime_ns for cell in cells] == written
