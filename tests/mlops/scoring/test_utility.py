from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gan_core.metrics.intervals import Interval, interval
from gan_core.metrics.utility.gain import WAYS
from mlops.project.result_files import UTILITY, load_json
from mlops.scoring.utility import Utility, read_utility, utility_metrics, write_utility

SHARES = np.random.default_rng(0).uniform(0.8, 0.9, (5, 6))


def made(gained: list[float] | None = None, *, mirror: bool = False) -> Utility:
    """Return accuracies of six seeds, the last way's by so much above that of shifted images."""
    accuracies = {way: list(map(float, values)) for way, values in zip(WAYS, SHARES, strict=True)}
    if gained is not None:
        accuracies["shifted_generated"] = [
            share + more for share, more in zip(accuracies["shifted"], gained, strict=True)
        ]
    return Utility(accuracies, mirror, train=100, test=436, steps=1000)


@pytest.mark.parametrize(
    ("gained", "answer"),
    [
        ([0.01, 0.02, 0.01, 0.02, 0.01, 0.02], "helps"),
        ([-0.01, -0.02, -0.01, -0.02, -0.01, -0.02], "does not help"),
        ([0.01, -0.02, 0.01, 0.02, -0.01, 0.02], "cannot tell"),
    ],
)
def test_the_answer_is_the_gain_of_generated_images_over_shifted_ones(gained: list[float], answer: str) -> None:
    measured, expected = made(gained), interval(gained)
    assert measured.answer == answer
    flat = utility_metrics(measured)
    ends = [flat[f"utility_gain{end}"] for end in ("", "_low", "_high")]
    assert ends == pytest.approx([expected.mean, expected.low, expected.high], abs=1e-12)
    assert {way: flat[f"utility_{way}"] for way in WAYS} == pytest.approx(
        {way: np.mean(values) for way, values in measured.accuracies.items()}
    )


def test_what_is_written_is_read(tmp_path: Path) -> None:
    assert (read_utility(tmp_path), utility_metrics(None)) == (None, {})
    for measured in (made(), made(mirror=True)):
        write_utility(measured, tmp_path)
        assert read_utility(tmp_path) == measured
    content: dict[str, Any] = load_json(tmp_path / UTILITY)
    assert content["answer"] == measured.answer
    assert Interval(**content["accuracy"]["generated"]) == interval(SHARES[2].tolist())
    assert Interval(**content["gain"]) == measured.gained


def test_rows_are_in_percent_and_points() -> None:
    rows = {row[0]: row[1:] for row in made([0.01] * 6).rows()}
    assert next(iter(rows)) == "real"
    assert rows["real"][1] == rows["shifted"][2] == ""
    assert rows["shifted + generated"][2].startswith("+1.")
    assert float(rows["generated"][0].split()[0]) == pytest.approx(100 * SHARES[2].mean(), rel=0.01)
    below = made([-0.02, -0.01, -0.02, -0.01, -0.02, -0.01]).rows()[-1][-1]
    assert below.startswith("-1.")
    assert "shifted, mirrored" in {row[0] for row in made(mirror=True).rows()}


def test_no_accuracy_is_above_100_percent() -> None:
    few = Utility({way: [0.6, 0.99] for way in WAYS}, False, train=100, test=436, steps=1000)
    assert few.rows()[0][1].endswith("[0, 100]")
