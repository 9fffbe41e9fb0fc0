"""What `python -m benchmarks.gate` measures on the pipeline's generator, here on a simulated one."""

from dataclasses import replace
from math import sqrt
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.gate import PAIRS, Laboratory, by_seeds, draw, power, promoted
from gan_core.config import ComputeConfig
from gan_core.runtime.randomness import stream
from mlops.project import params
from mlops.project.prepared_data import load_images
from mlops.scoring.scorer import Scorer
from stages.extractor import extractor
from stages.fetch import fetch
from stages.prepare import prepare

PARAMS = params.load(Path(__file__).parents[2] / "params.yaml")


@pytest.fixture(scope="module")
def laboratory(tmp_path_factory: pytest.TempPathFactory) -> Laboratory:
    """Return images of a generator that makes training images with noise: the same distribution on every machine."""
    folder, compute = tmp_path_factory.mktemp("laboratory"), ComputeConfig("cpu", 1)
    fetch(folder / "raw", data=PARAMS.data)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DVC_ROOT", str(folder))
        prepare(folder / "raw", folder / "prepared", data=PARAMS.data, prepare=PARAMS.prepare)
    extractor(folder / "prepared", folder / "extractor", compute=compute, extractor=PARAMS.extractor)
    rng = stream(0, "test generator")
    images = torch.tensor(load_images(folder / "prepared", "train"))
    drawn = images[torch.randint(len(images), (20_000,), generator=rng)]
    noisy = (drawn + 20 * torch.randn(drawn.shape, generator=rng)).round().clamp(0, 255).to(torch.uint8)
    return Laboratory(Scorer(folder / "prepared", folder / "extractor", compute, PARAMS.evaluate), noisy)


@pytest.mark.slow
def test_equal_models_are_rarely_promoted_and_a_tenth_better_ones_nearly_always(laboratory: Laboratory) -> None:
    rate, banks = PARAMS.register.false_promotion_rate, PARAMS.evaluate.banks
    shares = power(laboratory, (0.0, 0.1), (banks,), rate)
    assert rate == 0.05
    assert shares[0.0][banks] <= rate + 2 * sqrt(rate * (1 - rate) / PAIRS)
    assert shares[0.1][banks] >= 0.9


def test_the_share_of_promoted_challengers_is_that_of_the_test() -> None:
    rng = np.random.default_rng(0)
    champions = rng.normal(1, 0.1, (60, 20))
    assert promoted(champions, champions - 1, 0.05) == 1
    assert promoted(champions, champions + 1, 0.05) == 0
    assert promoted(champions, rng.normal(1, 0.1, (60, 20)), 0.5) == pytest.approx(0.5, abs=4 * sqrt(0.25 / 60))


def test_trainings_that_differ_in_seed_pass_through_sampling_noise_but_not_through_that_of_seeds() -> None:
    rng = np.random.default_rng(0)
    trainings = rng.normal(2, 0.3, (40, 1)) + rng.normal(0, 0.3, (40, 100))
    column = [str(cell) for cell in by_seeds(trainings, 0.05).columns[3].cells]
    one, every, groups = (float(cell.rstrip("%")) for cell in column)
    assert min(one, every) > 20
    assert groups < 12


def test_the_curve_is_a_picture() -> None:
    shares = {improvement: dict.fromkeys((10, 25, 50, 100), improvement) for improvement in (0.0, 0.1)}
    assert draw(shares, 436, 0.05).startswith(b"\x89PNG")


def test_the_default_budget_is_the_largest_of_the_curve() -> None:
    from benchmarks.gate import BUDGETS

    assert max(BUDGETS) == PARAMS.evaluate.banks
    assert replace(PARAMS.evaluate, banks=max(BUDGETS)) == PARAMS.evaluate
