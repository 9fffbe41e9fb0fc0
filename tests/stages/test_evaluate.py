import json
import shutil
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from gan_core.config import FEWEST_SCORED, ComputeConfig
from gan_core.generation.generate import generate
from gan_core.generation.generator_file import load_generator
from gan_core.generation.latents import z_bank
from gan_core.metrics.intervals import interval
from gan_core.metrics.neighbours import radii
from gan_core.metrics.parzen import SAMPLES, best_sigma, log_likelihoods
from gan_core.metrics.utility import training as utility_trainings
from mlops.project.errors import UserError
from mlops.project.params import Params
from mlops.project.prepared_data import load_images, load_labels
from mlops.project.result_files import (
    BANKS,
    CLASSES,
    COMPARISON,
    INTERPOLATION,
    METRICS,
    NEIGHBOURS,
    PASSPORT,
    SCORES,
    TRUNCATION,
    UTILITY,
    WALK,
)
from mlops.scoring.evaluation import LOWER_IS_BETTER, RANGE, Evaluation, Skill
from mlops.scoring.evaluation_files import mlflow_metrics, read_evaluation
from mlops.scoring.passport import differences, passport_sha256
from mlops.scoring.utility import read_utility
from stages.evaluate import _print_table, evaluate
from stages.extractor import extractor

CPU = ComputeConfig("cpu", 1)


@pytest.fixture
def score(
    root: Path, prepared: Path, committed: Params, train_tiny: Callable[..., Path], request: pytest.FixtureRequest
) -> Callable[..., tuple[dict[str, Any], dict[str, Any]]]:
    """Return a function that evaluates one tiny generator, conditional if asked, and returns scores and passport."""
    extractor(prepared, root / "extractor", compute=CPU, extractor=replace(committed.extractor, epochs=3))
    generator = train_tiny("trained", conditional=getattr(request, "param", False)) / "generator.safetensors"
    (root / "replicas").mkdir()

    def run(name: str, **changes: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        config = replace(committed.evaluate, **{"banks": 3} | changes)
        inputs = (prepared, root / "extractor", generator, root / "replicas")
        evaluate(
            *inputs, root / name, compute=CPU, execution=committed.execution, train=committed.train, evaluate=config
        )
        scores, passport = (json.loads((root / name / f"{file}.json").read_text()) for file in ("scores", "passport"))
        return scores, passport

    return run


def test_scores_stand_beside_those_of_real_images_and_of_noise(score: Callable[..., Any], root: Path) -> None:
    scores, passport = score("one")
    fid, inception_score = scores["fid_digits"], scores["is_digits"]
    assert fid["real"] < min(fid["mean"], fid["noise"])
    assert fid["to_real"] == pytest.approx(fid["mean"] / fid["real"], rel=1e-9)
    assert fid["to_noise"] == pytest.approx(fid["mean"] / fid["noise"], rel=1e-9)
    assert 1 <= inception_score["mean"] < inception_score["real"] <= 10
    assert "label_accuracy_digits" not in scores  # this generator takes no labels
    for metric, lower in LOWER_IS_BETTER.items():
        if metric == "label_accuracy":
            continue
        measured = scores[f"{metric}_digits"]
        assert (measured["mean"] - measured["real"]) * (1 if lower else -1) >= -0.02
    assert scores["passport"] == passport_sha256(passport)


@pytest.mark.parametrize("score", [True], indirect=True, ids=["conditional"])
def test_a_conditional_generator_is_asked_for_the_classes_of_the_scored_images(
    score: Callable[..., Any], root: Path, prepared: Path
) -> None:
    scores, passport = score("one", max_images=200)
    accuracy = scores["label_accuracy_digits"]
    assert accuracy["mean"] < 0.5 < accuracy["real"]  # trained for 24 steps
    assert passport["compared"]["labels_if_conditional"] == "those of the real images"
    table = pd.read_csv(root / "one" / CLASSES)
    assert list(table["class"]) == list(range(10))
    labels = load_labels(prepared, "test")
    assert labels is not None
    shares = np.bincount(labels) * 200 / len(labels)
    assert (abs(table["images"] - shares) < 1).all()
    assert (table["precision"] - table["precision_real"]).mean() < -0.2
    weighted = (table["label_accuracy_real"] * table["images"]).sum() / 200
    assert weighted == pytest.approx(accuracy["real"], abs=1e-4)
    assert "fid" not in table  # 20 images a class say nothing of 64 features


@pytest.mark.parametrize("score", [True], indirect=True, ids=["conditional"])
def test_utility_is_measured_beside_scores_that_stay_as_they_are(
    score: Callable[..., Any], root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(utility_trainings, "ROUNDS", 4)
    plain = score("plain", banks=2, max_images=200)
    capsys.readouterr()
    assert score("measured", banks=2, max_images=200, utility_seeds=2) == plain
    shown = capsys.readouterr().out
    names = {path.name for path in (root / "plain").iterdir()}
    assert {path.name for path in (root / "measured").iterdir()} == names | {UTILITY}
    for name in names:
        assert (root / "plain" / name).read_bytes() == (root / "measured" / name).read_bytes()
    measured = read_utility(root / "measured")
    assert measured is not None
    assert {len(values) for values in measured.accuracies.values()} == {2}
    assert (measured.train, measured.test, measured.mirror) == (1206, 200, False)
    assert min(measured.accuracies["real"]) > max(measured.accuracies["generated"])  # of a generator of 24 steps
    assert measured.rows()[2][1] in shown


def test_a_trivial_generator_and_the_extractors_accuracy_are_measured(
    score: Callable[..., Any], root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scores, passport = score("one", max_images=100)
    assert scores["fid_digits"]["real"] < scores["fid_digits"]["trivial"] < scores["fid_digits"]["noise"]
    assert passport["compared"]["trivial"] == {"superimposed": 2, "split": "train", "images": 100}
    accuracy = json.loads((root / "extractor" / "metrics.json").read_text())["test_accuracy"]
    skill = scores["extractor"]
    assert (skill["accuracy"], skill["majority"]) == (pytest.approx(accuracy), pytest.approx(0.13, abs=0.02))
    read = read_evaluation("it", root / "one")
    assert (read.skill, read.scores["fid"].trivial) == (Skill(**skill), scores["fid_digits"]["trivial"])
    assert mlflow_metrics(read)["extractor_accuracy"] == skill["accuracy"]
    assert f"{scores['fid_digits']['trivial']:.3g}" in capsys.readouterr().out


def test_every_score_is_the_mean_of_its_banks_with_their_interval(score: Callable[..., Any], root: Path) -> None:
    scores, passport = score("one", banks=5)
    banks = read_evaluation("it", root / "one").banks
    assert list(banks.bank) == [0, 1, 2, 3, 4]
    for metric in LOWER_IS_BETTER.keys() - {"label_accuracy"}:  # this generator takes no labels
        measured = interval(list(banks[metric]))
        ends = [scores[f"{metric}_digits"][end] for end in ("mean", "low", "high")]
        within = np.clip([measured.mean, measured.low, measured.high], *RANGE.get(metric, (0, 1)))
        assert ends == pytest.approx(within, rel=1e-9, abs=1e-12)
    assert banks.fid.nunique() == 5
    assert (scores["banks"], scores["trainings"], "banks" in passport["settings"]) == (5, 1, False)
    assert "seeds" not in scores["fid_digits"]


def test_other_seeds_have_an_interval_of_their_own(
    score: Callable[..., Any], root: Path, train_tiny: Callable[..., Path]
) -> None:
    alone, _ = score("alone")
    for seed in (9, 10):  # 10 comes after 9, though not in the alphabet
        shutil.copy(
            train_tiny(f"again-{seed}", seed=seed) / "generator.safetensors", root / f"replicas/{seed}.safetensors"
        )
    scores, _ = score("three")
    banks = read_evaluation("it", root / "three").banks
    means = list(banks.groupby("training").fid.mean())
    assert len(means) == scores["trainings"] == 3
    assert scores["fid_digits"]["seeds"] == pytest.approx(asdict(interval(means)), rel=1e-9)
    assert {name: value for name, value in scores["fid_digits"].items() if name != "seeds"} == alone["fid_digits"]
    assert scores["passport"] == alone["passport"]
    (root / "replicas" / "9.safetensors").unlink()
    score("two")
    assert list(read_evaluation("it", root / "two").banks.groupby("training").fid.mean()) == [means[0], means[2]]


def test_the_same_evaluation_gives_the_same_bytes(score: Callable[..., Any], root: Path) -> None:
    score("one")
    score("two")
    names = sorted(path.name for path in (root / "one").iterdir())
    assert names == sorted([BANKS, COMPARISON, INTERPOLATION, METRICS, NEIGHBOURS, PASSPORT, SCORES, TRUNCATION, WALK])
    for name in names:
        assert (root / "one" / name).read_bytes() == (root / "two" / name).read_bytes()


def test_pictures_are_large_enough_to_be_read(score: Callable[..., Any], root: Path) -> None:
    score("one")
    for name, smallest in (
        (COMPARISON, (1000, 500)),
        (NEIGHBOURS, (600, 400)),
        (INTERPOLATION, (600, 500)),
        (WALK, (600, 600)),
    ):
        with Image.open(root / "one" / name) as picture:
            assert picture.width >= smallest[0]
            assert picture.height >= smallest[1]


def test_every_set_has_as_many_images(score: Callable[..., Any], prepared: Path) -> None:
    scores, passport = score("few", max_images=100)
    assert scores["images"] == 100
    real = {"split": "test", "images": 100, "sample": "stratified by class", "seed": 0}
    counts = {"generated": 100, "real": real, "noise": 100}
    assert {name: passport["compared"][name] for name in counts} == counts
    assert passport["settings"]["kid_subset_size"] == 100
    scores, passport = score("all")
    assert scores["images"] == len(load_images(prepared, "test"))
    assert passport["compared"]["real"] == {"split": "test", "images": scores["images"]}


def test_another_seed_is_another_passport_exactly_if_it_chooses_the_real_images(score: Callable[..., Any]) -> None:
    (scores, passport), (other_scores, other) = score("one", banks=2), score("two", banks=2, seed=1)
    assert passport == other
    assert scores["fid_digits"]["mean"] != other_scores["fid_digits"]["mean"]  # of other z
    assert scores["fid_digits"]["real"] == other_scores["fid_digits"]["real"]
    few = {"banks": 2, "max_images": 100}
    (scores, passport), (other_scores, other) = score("few", **few), score("other few", **few, seed=1)
    assert differences(passport, other) == ["compared.real.seed: 0 and 1"]
    assert scores["fid_digits"]["real"] != other_scores["fid_digits"]["real"]


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"max_images": 200}, "compared.generated"),
        ({"isc_splits": 5}, "settings.isc_splits"),
        ({"kid_subset_size": 100}, "settings.kid_subset_size"),
    ],
)
def test_what_scores_depend_on_is_another_passport(
    score: Callable[..., Any], change: dict[str, Any], field: str
) -> None:
    first, second = score("one")[1], score("two", **change)[1]
    assert any(line.startswith(f"{field}: ") for line in differences(first, second))


@pytest.mark.parametrize("change", [{"few_images": "refuse"}, {"max_images": 5000}, {"kid_subset_size": 900}])
def test_what_no_score_depends_on_is_in_no_passport(score: Callable[..., Any], change: dict[str, Any]) -> None:
    assert score("one") == score("two", **change)


@pytest.mark.parametrize(("extractor", "trainings"), [("digits", 1), ("an_extractor_of_a_long_name", 2)])
def test_the_table_fits_80_columns_and_says_what_is_better(
    extractor: str,
    trainings: int,
    every_score: Callable[..., Evaluation],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    _print_table(every_score(extractor, trainings))
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    rows = [[cell.strip() for cell in line.strip("│").split("│")] for line in lines if line.startswith("│")]
    named = [row for row in rows if row[-1]]
    assert {row[0].removesuffix(f"_{extractor}"): row[-1] == "lower" for row in named} == LOWER_IS_BETTER
    intervals = [row for row in rows if "[" in row[1]]
    assert len(intervals) == trainings * len(named)  # each score over banks of z and, if there are some, over seeds
    assert [row[1] for row in rows if row not in intervals] == ["26", "213"]  # the FID of what has learned nothing


def test_few_images_are_marked_or_refused(score: Callable[..., Any], capsys: pytest.CaptureFixture[str]) -> None:
    assert score("few", max_images=127)[0]["few_images"] == 1
    assert "warning: 127 images" in capsys.readouterr().out
    assert score("enough", max_images=128, few_images="refuse")[0]["few_images"] == 0
    assert "warning" not in capsys.readouterr().out
    with pytest.raises(UserError, match=r"127 .* 64 .*evaluate\.few_images"):
        score("refused", max_images=127, few_images="refuse")


def test_the_fewest_images_are_scored_and_fewer_have_no_third_neighbour(score: Callable[..., Any]) -> None:
    scores, passport = score("few", max_images=FEWEST_SCORED)
    assert passport["settings"]["isc_splits"] == FEWEST_SCORED // 2  # of one image each, the score would be 1
    assert scores["is_digits"]["real"] > 1
    assert score("more", max_images=19)[1]["settings"]["isc_splits"] == 9
    assert radii(torch.rand(FEWEST_SCORED, 2)).shape == (FEWEST_SCORED, 2)
    with pytest.raises((RuntimeError, IndexError)):
        radii(torch.rand(FEWEST_SCORED - 1, 2))


def test_the_papers_likelihood_is_of_the_test_images_under_a_window_on_generated_ones(
    score: Callable[..., Any], root: Path, prepared: Path
) -> None:
    scores, passport = score("parzen", parzen=True)
    without = score("without")
    assert "parzen" not in without[0]
    assert passport == without[1]  # no other score depends on it
    generator, config, _ = load_generator(root / "trained" / "generator.safetensors")
    samples = generate(generator, z_bank(config, seed=0, count=SAMPLES))
    validation = torch.tensor(load_images(prepared, "validation"))
    test = torch.tensor(load_images(prepared, "test"))
    sigma = best_sigma(validation, samples)
    likelihoods = log_likelihoods(test, samples, sigma)
    error = likelihoods.std(correction=0).item() / len(test) ** 0.5
    expected = {"sigma": sigma, "mean": likelihoods.mean().item(), "standard_error": error}
    assert scores["parzen"] == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("change", [{"banks": 4}, {"kid_subsets": 20}])
def test_how_precisely_was_measured_is_in_no_passport(score: Callable[..., Any], change: dict[str, Any]) -> None:
    assert score("one")[1] == score("two", **change)[1]
