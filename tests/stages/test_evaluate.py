import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from gan_core.config import ComputeConfig
from gan_core.parzen import SAMPLES, best_sigma, log_likelihoods
from gan_core.sampling import generate, z_bank
from gan_core.weights import load_generator
from stages.errors import StageError
from stages.evaluate import evaluate
from stages.extractor import extractor
from stages.params import Params
from stages.prepared import load_images

CPU = ComputeConfig("cpu", 1)


@pytest.fixture
def score(
    root: Path, prepared: Path, committed: Params, train_tiny: Callable[..., Path]
) -> Callable[..., tuple[dict[str, Any], dict[str, Any]]]:
    """Return a function that evaluates one tiny generator and returns scores and passport."""
    extractor(prepared, root / "extractor", compute=CPU, extractor=replace(committed.extractor, epochs=3))
    generator = train_tiny("trained") / "generator.safetensors"

    def run(name: str, **changes: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        config = replace(committed.evaluate, **changes)
        evaluate(prepared, root / "extractor", generator, root / name, compute=CPU, evaluate=config)
        scores, passport = (json.loads((root / name / f"{file}.json").read_text()) for file in ("scores", "passport"))
        return scores, passport

    return run


def test_scores_stand_beside_those_of_real_images_and_of_noise(score: Callable[..., Any], root: Path) -> None:
    scores, _ = score("one")
    assert scores["fid_digits_of_real"] < min(scores["fid_digits"], scores["fid_digits_of_noise"])
    assert scores["fid_digits_to_real"] == pytest.approx(scores["fid_digits"] / scores["fid_digits_of_real"], rel=1e-9)
    assert 1 <= scores["is_digits"] <= 10
    assert scores["is_digits"] < scores["is_digits_of_real"] <= 10
    with Image.open(root / "one" / "comparison.png") as picture:
        assert picture.width > 1000


def test_the_same_evaluation_gives_the_same_scores_and_passport(score: Callable[..., Any]) -> None:
    assert score("one") == score("two")


def test_every_set_has_as_many_images(score: Callable[..., Any], prepared: Path) -> None:
    scores, passport = score("few", max_images=100)
    assert scores["images"] == 100
    assert passport["compared"] == {"generated": 100, "real": {"split": "test", "images": 100}, "noise": 100}
    assert score("all")[0]["images"] == len(load_images(prepared, "test"))


@pytest.mark.parametrize("change", [{"seed": 1}, {"max_images": 200}, {"isc_splits": 5}])
def test_another_setting_is_another_passport(score: Callable[..., Any], change: dict[str, Any]) -> None:
    assert score("one")[0]["passport"] != score("two", **change)[0]["passport"]


def test_few_images_are_marked(score: Callable[..., Any], capsys: pytest.CaptureFixture[str]) -> None:
    score("few", max_images=127)
    assert "warning: 127 images are few for 64 features" in capsys.readouterr().out
    score("enough", max_images=128)
    assert "warning" not in capsys.readouterr().out


def test_too_few_images_for_the_inception_score_are_refused(score: Callable[..., Any]) -> None:
    with pytest.raises(StageError, match=r"9 test images cannot be scored with evaluate\.isc_splits of 10 .* lower it"):
        score("few", max_images=9)


def test_the_papers_likelihood_is_of_the_test_images_under_a_window_on_generated_ones(
    score: Callable[..., Any], root: Path, prepared: Path
) -> None:
    scores, passport = score("parzen", parzen=True)
    assert passport["settings"]["parzen"] is True
    assert not any(name.startswith("parzen") for name in score("without")[0])
    generator, config = load_generator(root / "trained" / "generator.safetensors")
    samples = generate(generator, z_bank(config, seed=0, count=SAMPLES))
    validation = torch.tensor(load_images(prepared, "validation"))
    test = torch.tensor(load_images(prepared, "test"))
    sigma = best_sigma(validation, samples)
    found = log_likelihoods(test, samples, sigma)
    assert scores["parzen_sigma"] == sigma
    assert scores["parzen_mean"] == pytest.approx(found.mean().item(), rel=1e-9)
    assert scores["parzen_standard_error"] == pytest.approx(found.std(correction=0).item() / len(test) ** 0.5, rel=1e-9)
