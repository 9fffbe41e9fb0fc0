import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from PIL import Image

from commands import generate as module
from commands.generate import generate, main
from mlops.project import params
from mlops.project.errors import UserError
from mlops.tracking import loaded_model as registered
from mlops.tracking.runs import connect

ROOT = Path(__file__).parents[2]
Generate = Callable[..., Path]


@pytest.fixture
def generate_here(root: Path, registered: dict[str, str]) -> Generate:
    """Return a function that generates with the champion of normal latents into a named folder of an empty project."""

    def run(count: int, name: str = "images", **changes: Any) -> Path:
        given = {"seed": 0, "truncation": None, "model": f"models:/{registered['normal']}@champion", "threads": 1}
        generate(count, root / name, **(given | changes))
        return root / name

    return run


def content(folder: Path) -> dict[str, bytes]:
    """Return the bytes of all files by their paths."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def pixels(folder: Path) -> NDArray[np.uint8]:
    return np.stack([np.asarray(Image.open(path)) for path in sorted((folder / "images").iterdir())])


def test_the_manifest_lists_every_image(generate_here: Generate) -> None:
    folder = generate_here(12, seed=5)
    rows = pd.read_csv(folder / "manifest.csv")
    assert list(rows.columns) == ["file", "seed", "number", "sha256"]
    assert list(rows.file) == [f"images/{number:06}.png" for number in range(12)]
    assert (set(rows.seed), list(rows.number)) == ({5}, list(range(12)))
    files = content(folder)
    assert set(files) == {*rows.file, "manifest.csv", "manifest.json", "grid.png"}
    assert [hashlib.sha256(files[file]).hexdigest() for file in rows.file] == list(rows.sha256)
    assert rows.sha256.nunique() == 12
    assert pixels(folder).shape == (12, 8, 8)


def test_the_manifest_says_what_the_images_were_made_from(generate_here: Generate, registered: dict[str, str]) -> None:
    folder = generate_here(3, seed=5, truncation=0.7)
    client, _ = connect()
    version = client.get_model_version_by_alias(registered["normal"], "champion")
    assert json.loads((folder / "manifest.json").read_text()) == {
        "model": registered["normal"],
        "version": str(version.version),
        "run_id": version.run_id,
        "weights_sha256": version.tags["generator.sha256"],
        "seed": 5,
        "truncation": 0.7,
        "count": 3,
    }


def test_the_same_call_gives_the_same_bytes(generate_here: Generate) -> None:
    assert content(generate_here(70, "one")) == content(generate_here(70, "two"))
    assert not np.array_equal(pixels(generate_here(70, "three", seed=1)), pixels(generate_here(70, "four")))


def test_few_images_are_in_memory_at_once_and_none_depends_on_how_many(
    generate_here: Generate, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = generate_here(23, "whole")
    asked: list[int] = []

    def count(model: Any, rows: pd.DataFrame) -> pd.DataFrame:
        asked.extend(rows["count"])
        return generated(model, rows)

    generated = registered.generated
    monkeypatch.setattr(module, "BATCH", 10)
    monkeypatch.setattr(registered, "generated", count)
    parts = generate_here(23, "parts")
    assert asked == [10, 10, 3]
    same = {name: data for name, data in content(whole).items() if name != "grid.png"}
    assert same.items() <= content(parts).items()


def test_truncation_gathers_images_at_the_mode(generate_here: Generate) -> None:
    variances = [
        pixels(generate_here(50, f"truncated-{bound}", truncation=bound)).var(axis=0).mean()
        for bound in (1e-6, 0.5, 2.0, None)
    ]
    assert variances[0] < 0.5
    assert variances == sorted(variances)
    assert variances[3] > 1.2 * variances[1]


@pytest.mark.parametrize("count", [1, 9, 10, 37, 205])
def test_the_grid_shows_the_first_images(generate_here: Generate, count: int) -> None:
    folder = generate_here(count)
    columns = min(10, count)
    with Image.open(folder / "grid.png") as picture:
        rows = round(picture.height / (picture.width / columns))
    assert rows == min(10, count // columns)


@pytest.mark.parametrize(
    ("count", "changes", "message"),
    [
        (0, {}, "COUNT must be at least 1, got 0"),
        (1, {"seed": -1}, "seed must be at least 0"),
        (1, {"seed": 2**63}, "below 2"),
        (1, {"truncation": 0.0}, "truncation must be a number above 0, got 0.0; leave it out"),
        (1, {"truncation": float("nan")}, "truncation must be a number above 0"),
        (1, {"truncation": float("inf")}, "truncation must be a number above 0"),
        (1, {"truncation": 1.0, "model": "models:/fresh-uniform@champion"}, "latents; those of this generator are uni"),
        (1, {"model": "models:/nobody@champion"}, r"models:/nobody@champion: .* not found; `make run` registers"),
        (1, {"model": "models:/fresh-normal@king"}, r"king.* not found; `make run` registers"),
        (1, {"model": "models:/fresh-normal/99"}, r"99.* not found; `make run` registers"),
        (1, {"model": "fresh-normal"}, "write models:/NAME@ALIAS or models:/NAME/VERSION"),
    ],
)
def test_what_cannot_be_done_leaves_nothing(
    generate_here: Generate, root: Path, count: int, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        generate_here(count, **changes)
    assert {path.name for path in root.iterdir()} <= {".mlflow"}


def test_a_folder_that_holds_something_is_not_touched(generate_here: Generate, root: Path) -> None:
    (root / "images").mkdir()
    (root / "images" / "mine.txt").write_text("mine")
    with pytest.raises(UserError, match=r"images exists and is not empty; remove it .* or name another"):
        generate_here(1)
    assert content(root / "images") == {"mine.txt": b"mine"}


def test_the_command_takes_the_champion_of_the_parameters(
    root: Path, registered: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    text = (ROOT / "params.yaml").read_text()
    model = params.load(ROOT / "params.yaml").register.model_name
    (root / "params.yaml").write_text(text.replace(f"model_name: {model}", f"model_name: {registered['normal']}"))
    main(["2", "images"])
    assert "2 images of fresh-normal version 1 are in images" in capsys.readouterr().out
    main(["--seed=1", f"--model=models:/{registered['uniform']}/1", "--", "2", "other"])
    facts = json.loads((root / "other" / "manifest.json").read_text())
    assert (facts["seed"], facts["truncation"], facts["model"]) == (1, None, registered["uniform"])
    with pytest.raises(SystemExit):
        main(["two", "third"])
    assert "invalid int value: 'two'" in capsys.readouterr().err
