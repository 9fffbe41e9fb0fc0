import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from PIL import Image

from commands.generate import generate, main
from mlops.project.errors import UserError
from mlops.tracking.loaded_model import generated
from mlops.tracking.runs import connect

ROOT = Path(__file__).parents[2]
Generate = Callable[..., Path]


@pytest.fixture
def generate_here(root: Path, registered: dict[str, str]) -> Generate:
    """Return a function that generates with the champion of normal latents into a named folder of an empty project."""

    def run(count: int, name: str = "images", **changes: Any) -> Path:
        given: dict[str, Any] = {
            "name": registered["normal"],
            "model": "champion",
            "seed": 0,
            "truncation": None,
            "label": None,
            "threads": 1,
        }
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


def test_the_manifest_has_what_the_images_were_made_from(generate_here: Generate, registered: dict[str, str]) -> None:
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

    monkeypatch.setattr("commands.generate.BATCH", 10)
    monkeypatch.setattr("commands.generate.generated", count)
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


def test_classes_take_turns_unless_one_is_asked_for(generate_here: Generate) -> None:
    model = "models:/fresh-conditional@champion"
    turns, bees = generate_here(7, "turns", model=model), generate_here(7, "bees", model=model, label="bee")
    rows = pd.read_csv(turns / "manifest.csv")
    assert list(rows.columns) == ["file", "seed", "number", "label", "sha256"]
    assert list(rows.label) == ["ant", "bee", "cow"] * 2 + ["ant"]
    assert list(pd.read_csv(bees / "manifest.csv").label) == ["bee"] * 7
    same = (pixels(turns) == pixels(bees)).all(axis=(1, 2))
    assert list(same) == [label == "bee" for label in rows.label]
    facts = [json.loads((folder / "manifest.json").read_text())["label"] for folder in (turns, bees)]
    assert facts == ["all in turn", "bee"]
    assert content(generate_here(7, "by number", model=model, label="1")) == content(bees)


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
        (1, {"truncation": 0.0}, "truncation.* 0"),
        (1, {"truncation": float("nan")}, "truncation.* nan"),
        (1, {"truncation": float("inf")}, "truncation.* inf"),
        (1, {"label": "cow"}, "no label"),
        (1, {"label": "dog", "model": "models:/fresh-conditional@champion"}, "'dog'.*ant, bee, cow"),
        (1, {"model": "models:/nobody@champion"}, "models:/nobody@champion"),
        (1, {"model": "99"}, "99"),
    ],
)
def test_what_cannot_be_done_leaves_nothing(
    generate_here: Generate, root: Path, count: int, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        generate_here(count, **changes)
    assert {path.name for path in root.iterdir()} <= {".mlflow", ".checkpoints"}


def test_a_folder_that_holds_something_is_not_touched(generate_here: Generate, root: Path) -> None:
    (root / "images").mkdir()
    (root / "images" / "mine.txt").write_text("mine")
    with pytest.raises(UserError, match="images "):
        generate_here(1)
    assert content(root / "images") == {"mine.txt": b"mine"}


def test_the_command_takes_the_champion_of_the_parameters(
    root: Path, registered: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    text = (ROOT / "params.yaml").read_text()
    (root / "params.yaml").write_text(text.replace("model_name: auto", f"model_name: {registered['normal']}"))
    main(["2", "images"], standalone_mode=False)
    assert "2 images of fresh-normal version 1 are in images" in capsys.readouterr().out
    main(["--seed=1", f"--model=models:/{registered['uniform']}/1", "--", "2", "other"], standalone_mode=False)
    facts = json.loads((root / "other" / "manifest.json").read_text())
    assert (facts["seed"], facts["truncation"], facts["model"]) == (1, None, registered["uniform"])


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        (["0", "images"], "count"),
        (["two", "images"], "count"),
        (["1000001", "images"], "count"),
        (["1", "images", "--seed", "-1"], "seed"),
        (["1", "images", "--seed", str(2**63)], "seed"),
        (["1", "images", "--truncation", "little"], "truncation"),
    ],
)
def test_a_value_that_is_out_of_range_is_named(root: Path, arguments: list[str], name: str) -> None:
    with pytest.raises(click.BadParameter) as raised:
        main(arguments, standalone_mode=False)
    assert raised.value.param is not None
    assert raised.value.param.name == name
    assert list(root.iterdir()) == []
