import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm
from scipy.optimize import linear_sum_assignment
from torch import Tensor
from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric

from gan_core.metrics.classifier import FEATURES
from gan_core.metrics.features import Extractor, Features, extract, inception_extractor
from gan_core.metrics.scores import (
    DIRECTIONS,
    DRAWS_SEED,
    Reference,
    Settings,
    fid,
    mind,
    scores,
    superimposed,
    uniform_noise,
)
from gan_core.runtime.pixels import to_unit_range
from gan_core.runtime.randomness import stream
from gan_core.runtime.tensor_files import save_tensors
from tests.gan_core.examples import (
    CPU,
    digits,
    digits_classifier,
    random_inception,
    random_pixels,
    registered,
    untrained,
)
from tests.project import ROOT


def features(extractor: Extractor, pixels: Tensor) -> Features:
    return extract(extractor, pixels, device=CPU, batch_size=64)


def score(
    extractor: Extractor, pixels: Tensor, reference: Tensor, settings: Settings | None = None
) -> dict[str, float]:
    settings = settings or Settings(isc_splits=3, kid_subsets=5, kid_subset_size=min(len(pixels), len(reference)))
    return scores(features(extractor, pixels), Reference.of(features(extractor, reference).features), settings)[0]


def frechet_distance(first: Tensor, second: Tensor) -> float:
    """Return |m1 - m2|^2 + Tr(S1 + S2 - 2 (S1^(1/2) S2 S1^(1/2))^(1/2)) of features in float64."""
    (m1, s1), (m2, s2) = (
        (x.mean(axis=0), np.cov(x, rowvar=False)) for x in (first.double().numpy(), second.double().numpy())
    )
    values, vectors = np.linalg.eigh(s1)
    root = (vectors * np.sqrt(values.clip(0))) @ vectors.T
    cross = np.sqrt(np.linalg.eigvalsh(root @ s2 @ root).clip(0)).sum()
    return float(((m1 - m2) ** 2).sum() + np.trace(s1) + np.trace(s2) - 2 * cross)


def inception_score(logits: Tensor) -> float:
    """Return exp E KL(p(y|x) || p(y)) in float64."""
    x = logits.double().numpy()
    p = np.exp(x) / np.exp(x).sum(axis=1, keepdims=True)
    return float(np.exp((p * np.log(p / p.mean(axis=0))).sum(axis=1).mean()))


def squared_mmd(first: Tensor, second: Tensor) -> float:
    """Return the unbiased estimate under the kernel (x.y / F + 1)^3, in float64."""
    x, y = first.double(), second.double()

    def kernel(a: Tensor, b: Tensor) -> Tensor:
        return (a @ b.T / a.shape[1] + 1) ** 3

    xx, yy = ((kernel(a, a).sum() - kernel(a, a).diagonal().sum()) / (len(a) * (len(a) - 1)) for a in (x, y))
    return float(xx + yy - 2 * kernel(x, y).mean())


@pytest.mark.parametrize("channels", [1, 3])
def test_scores_are_their_formulas_on_the_extractors_features(channels: int) -> None:
    classifier = untrained(channels)
    pixels = random_pixels(150, size=8, channels=channels, seed=1)
    reference = random_pixels(150, size=8, channels=channels, seed=2) // 2
    ours = score(registered(classifier, channels), pixels, reference, Settings(1, 1, 150))
    (here, logits), (there, _) = classifier(to_unit_range(pixels)), classifier(to_unit_range(reference))
    expected = frechet_distance(here, there)
    assert expected > 1
    assert ours["fid"] == pytest.approx(expected, rel=1e-5)
    assert ours["is"] == pytest.approx(inception_score(logits), rel=1e-6)
    assert ours["is"] > 1.1
    assert ours["kid"] == pytest.approx(squared_mmd(here, there), rel=1e-3)


def test_the_distance_of_few_images_is_that_of_torch_fidelity() -> None:
    here, there = points(30, 50, 1) * 0.7, points(90, 50, 2) + 0.2
    theirs = fid_statistics_to_metric(*map(fid_features_to_statistics, (here, there)), verbose=False)
    assert fid(here, Reference.of(there)) == pytest.approx(theirs["frechet_inception_distance"], rel=1e-6)


def points(count: int, dimension: int, seed: int) -> Tensor:
    return torch.randn(count, dimension, generator=stream(seed, "test points"))


def test_mind_is_optimal_transport_along_its_directions(monkeypatch: pytest.MonkeyPatch) -> None:
    """Berthet et al. 2026 (arXiv:2605.06797): 3 F times the mean squared distance, here by the assignment problem."""
    monkeypatch.setattr("gan_core.metrics.scores.DIRECTIONS", 40)
    here, there = points(30, 6, 1) * 0.7, points(30, 6, 2).exp()
    rays = torch.randn(40, 6, generator=stream(DRAWS_SEED, "MIND's directions")).double()
    costs = []
    for ray in rays / rays.norm(dim=1, keepdim=True):
        cost = ((here.double() @ ray)[:, None] - (there.double() @ ray)[None]).square().numpy()
        costs.append(cost[linear_sum_assignment(cost)].mean())
    assert mind(here, Reference.of(there)) == pytest.approx(3 * 6 * float(np.mean(costs)), rel=1e-5)
    assert mind(there, Reference.of(here)) == pytest.approx(3 * 6 * float(np.mean(costs)), rel=1e-5)


def test_mind_of_another_mean_is_three_times_fid_and_takes_a_sample_of_more_images() -> None:
    assert DIRECTIONS >= 1000
    reference = Reference.of(points(3000, 8, 1))
    shifted, same = points(3000, 8, 1) + 1, points(800, 8, 2)
    assert fid(shifted, reference) == pytest.approx(8, rel=1e-3)
    assert mind(shifted, reference) == pytest.approx(24, rel=0.1)  # 1,000 directions: 24 (1 +- 0.04)
    ordered = Reference.of(reference.features[reference.features[:, 0].argsort()])  # its first 800 lie on one side
    assert 0 < mind(same, ordered) < 0.5
    assert mind(points(4000, 8, 3), reference) < 0.2


def test_the_distance_agrees_with_the_matrix_square_root() -> None:
    classifier = digits_classifier()
    images, _ = digits()
    first, second = (classifier(to_unit_range(part))[0].double() for part in (images[:400], images[400:900] // 2))
    s1, s2 = (np.cov(part.numpy(), rowvar=False) + 1e-9 * np.eye(FEATURES) for part in (first, second))
    squared = float((first.mean(dim=0) - second.mean(dim=0)).square().sum())
    expected = squared + float(np.trace(s1 + s2 - 2 * np.real(sqrtm(s1 @ s2))))
    extractor = registered(classifier, 1)
    reference = Reference.of(features(extractor, images[400:900] // 2).features)
    assert fid(features(extractor, images[:400]).features, reference) == pytest.approx(expected, rel=1e-4)


def test_a_set_is_no_distance_from_itself_and_order_does_not_matter() -> None:
    extractor = registered(digits_classifier(), 1)
    images, _ = digits()
    here, there = images[:500], images[500:1000] // 2
    apart, same = score(extractor, here, there), score(extractor, here, here)
    assert apart["fid"] > 1
    assert same["fid"] == pytest.approx(0, abs=1e-3 * apart["fid"])
    assert abs(same["kid"]) < 0.05 * apart["kid"]
    assert (same["precision"], same["recall"], same["near_copies"]) == (1, 1, 1)
    back = score(extractor, there, here)
    assert back["fid"] == pytest.approx(apart["fid"], rel=1e-5)
    assert (back["precision"], back["recall"]) == (apart["recall"], apart["precision"])


def test_noise_scores_worse_than_real_images() -> None:
    images, labels = digits()
    extractor = registered(digits_classifier(), 1)
    reference = Reference.of(features(extractor, images[:1300]).features, labels[:1300], 10)
    noise = torch.cat([*uniform_noise((400, 1, 8, 8), stream(0, "noise"), 400)])
    settings = Settings(2, 5, 400)
    real, bad = (scores(features(extractor, part), reference, settings)[0] for part in (images[1300:1700], noise))
    assert bad["fid"] > 10 * real["fid"] > 0
    assert bad["kid"] > 10 * abs(real["kid"])
    for metric in ("is", "precision", "recall", "class_balance"):
        assert real[metric] > 1.5 * bad[metric]
    assert (real["class_coverage"], bad["class_coverage"] < 1) == (1, True)
    assert bad["near_copies"] < real["near_copies"] < 0.1


def test_classes_are_scored_only_if_there_are_labels() -> None:
    ours = score(registered(untrained(1), 1), random_pixels(60, size=8), random_pixels(60, size=8, seed=1))
    assert list(ours) == ["fid", "kid", "mind", "is", "precision", "recall", "density", "coverage", "near_copies"]


def test_a_lost_class_lowers_coverage_and_balance() -> None:
    images, labels = digits()
    extractor = registered(digits_classifier(), 1)
    reference = Reference.of(features(extractor, images[:1300]).features, labels[:1300], 10)
    rest = images[1300:][labels[1300:] != 7]
    ours, _ = scores(features(extractor, rest), reference, Settings(2, 2, 100))
    assert ours["class_coverage"] == pytest.approx(0.9)
    assert ours["class_balance"] == pytest.approx(0.9, abs=0.04)


def test_noise_is_uniform_on_all_bytes() -> None:
    noise = torch.cat([*uniform_noise((1000, 1, 16, 16), stream(0, "noise"), 1000)])
    counts = torch.bincount(noise.flatten().long(), minlength=256)
    assert (noise.dtype, noise.shape) == (torch.uint8, (1000, 1, 16, 16))
    # Expected 1,000 each; eight standard deviations.
    assert counts.tolist() == pytest.approx([1000] * 256, abs=256)
    assert torch.equal(noise, torch.cat([*uniform_noise((1000, 1, 16, 16), stream(0, "noise"), 37)]))
    assert not torch.equal(noise, torch.cat([*uniform_noise((1000, 1, 16, 16), stream(1, "noise"), 1000)]))


# torch-fidelity's own command line, with the images registered as inputs and, if asked for, the classifier.
COMMAND_LINE = """
import sys
from pathlib import Path
import torch
from torch_fidelity.fidelity import main
from benchmarks.peers.fidelity import register, register_images
from gan_core.metrics.classifier import Classifier
from gan_core.metrics.features import classifier_extractor
from gan_core.runtime.tensor_files import load_tensors

torch.set_num_threads(1)
folder = Path(sys.argv.pop(1))
register_images(load_tensors(folder / "images.safetensors")[0])
if (folder / "classifier.safetensors").exists():
    tensors, shape = load_tensors(folder / "classifier.safetensors")
    classifier = Classifier(**shape)
    classifier.load_state_dict(tensors)
    register(classifier_extractor(classifier, channels=shape["channels"], sha256="c" * 64))
main()
"""


def their_scores(folder: Path, generated: Tensor, reference: Tensor, *options: str) -> dict[str, float]:
    """Return what the command line prints of FID, IS, KID, precision and recall."""
    save_tensors(folder / "images.safetensors", {"generated": generated, "reference": reference}, {})
    metrics = ("--cpu", "--json", "--silent", "--no-cache", "--isc", "--fid", "--kid", "--prc")
    command = (sys.executable, "-c", COMMAND_LINE, str(folder), *metrics, *options)
    inputs = ("--input1", "generated", "--input2", "reference")
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    ended = subprocess.run([*command, *inputs], capture_output=True, text=True, check=False, env=environment)
    assert ended.returncode == 0, ended.stderr
    printed: dict[str, float] = json.loads(ended.stdout[ended.stdout.index("{") :])
    return printed


def assert_equal(ours: dict[str, float], theirs: dict[str, float]) -> None:
    names = {
        "fid": "frechet_inception_distance",
        "kid": "kernel_inception_distance_mean",
        "is": "inception_score_mean",
        "precision": "precision",
        "recall": "recall",
    }
    expected = {ours: theirs[name] for ours, name in names.items()}
    assert {name: ours[name] for name in names} == pytest.approx(expected, rel=1e-6)


@pytest.mark.slow
def test_all_scores_equal_those_of_torch_fidelitys_command_line(tmp_path: Path) -> None:
    images, _ = digits()
    reference, generated = images.repeat(2, 1, 1, 1)[:3000], images.flip(0)[:1500] // 17 * 18
    reference = (reference + torch.arange(3000, dtype=torch.uint8)[:, None, None, None] % 5).clamp(max=255)
    classifier = digits_classifier()
    save_tensors(
        tmp_path / "classifier.safetensors", dict(classifier.state_dict()), {"size": 8, "channels": 1, "classes": 10}
    )
    theirs = their_scores(tmp_path, generated, reference, "--feature-extractor", "classifier-cccccccccccccccc")
    ours = score(registered(classifier, 1), generated, reference, Settings(10, 100, 1000))
    assert_equal(ours, theirs)
    assert 0.1 < ours["precision"] < 1
    assert 0.1 < ours["recall"] < 1


@pytest.mark.slow
def test_the_whole_path_of_inception_equals_torch_fidelitys_command_line(tmp_path: Path) -> None:
    generated, reference = random_pixels(40, size=16), random_pixels(50, size=16, seed=1) // 2
    path = random_inception(tmp_path / "inception.pth")
    options = ("--feature-extractor", "inception-v3-compat", "--feature-extractor-weights-path", str(path))
    theirs = their_scores(tmp_path, generated, reference, *options, "--kid-subset-size", "30")
    ours = score(inception_extractor(path, CPU), generated, reference, Settings(10, 100, 30))
    assert_equal(ours, theirs)


def test_a_trivial_generator_superimposes_two_images() -> None:
    images = torch.tensor([0, 100, 255], dtype=torch.uint8).view(3, 1, 1, 1).expand(3, 2, 4, 4)
    made = torch.cat([*superimposed(images, 900, stream(0, "a test"), 900)])
    assert (made.dtype, made.shape) == (torch.uint8, (900, 2, 4, 4))
    assert (made == made[:, :1, :1, :1]).all()
    values, counts = made[:, 0, 0, 0].unique(return_counts=True)
    assert values.tolist() == [0, 50, 100, 128, 178, 255]
    expected = torch.tensor([100, 200, 100, 200, 200, 100])
    assert ((counts - expected).abs() < 4 * expected**0.5).all()
    assert torch.equal(made, torch.cat([*superimposed(images, 900, stream(0, "a test"), 37)]))
