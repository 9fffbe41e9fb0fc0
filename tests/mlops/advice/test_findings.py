from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gan_core.config import FEWEST_SCORED
from mlops.advice.findings import DARK, Findings, findings
from mlops.project.params import DataConfig, PrepareConfig
from stages.fetch import fetch
from stages.prepare import prepare


@pytest.fixture
def found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Findings]:
    """Return a function that finds out what images are, which are written under names, prepared with 16 pixels."""
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))

    def of(images: dict[str, np.ndarray], broken: str = "") -> Findings:
        for name, pixels in images.items():
            path = tmp_path / "images" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(path)
        if broken:
            (tmp_path / "images" / broken).write_bytes(b"no image")
        data, config = DataConfig("folder", "images"), PrepareConfig(16, 3, "crop", 0.3, 0.3, 1.0, 0)
        fetch(tmp_path / "raw", data=data)
        prepare(tmp_path / "raw", tmp_path / "prepared", data=data, prepare=config)
        return findings(tmp_path / "prepared")

    return of


def noise(count: int, *shape: int) -> list[np.ndarray]:
    return list(np.random.default_rng(0).integers(0, 256, (count, *shape), np.uint8))


def test_what_the_pixels_show_is_counted(found: Callable[..., Findings]) -> None:
    images = {f"many/{n}.png": pixels for n, pixels in enumerate(noise(30, 20, 30, 3))}
    images |= {f"few/{n}.png": pixels for n, pixels in enumerate(noise(11, 15, 40, 3))}
    images |= {f"few/dark-{n}.png": np.full((20, 20, 3), n, np.uint8) for n in (0, DARK, DARK + 1)}
    images["few/bright.png"] = np.full((20, 20, 3), 250, np.uint8)
    whole = found(images, broken="few/broken.png")
    assert whole.refused == ("few/broken.png",)
    assert (whole.total, whole.smallest_class, whole.largest_class) == (45, ("few", 15), ("many", 30))
    assert (whole.side, whole.enlarged, whole.dark, whole.bright) == (20, 11, 2, 1)
    assert whole.elongated == 41  # of 20 x 30 and 15 x 40 pixels
    assert not whole.is_grey


def test_images_without_colour_are_grey(found: Callable[..., Findings]) -> None:
    whole = found({f"{n}.png": pixels for n, pixels in enumerate(noise(10 * FEWEST_SCORED, 16, 16))})
    assert whole.is_grey
    assert whole.smallest_class is whole.largest_class is None


def test_pictures_that_two_classes_share_are_counted_and_those_that_one_repeats_are_not(
    found: Callable[..., Findings],
) -> None:
    pictures = noise(30, 16, 16, 3)
    images = {f"{'ab'[n % 2]}/{n}.png": pixels for n, pixels in enumerate(pictures)}
    repeated, shared = {"a/again.png": pictures[0]}, {"a/1-again.png": pictures[1]}
    whole = found(images | repeated | shared)
    assert whole.contradicted == 2
