import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm
from torch import Tensor
from torch_fidelity import feature_extractor_inceptionv3

from gan_core.classifier import FEATURES, Classifier
from gan_core.fidelity import (
    Extractor,
    PixelDataset,
    Scores,
    classifier_extractor,
    inception_extractor,
    scores,
    uniform_noise,
)
from gan_core.images import to_unit_range
from gan_core.randomness import stream
from tests.gan_core.examples import CPU, digits, digits_classifier, random_pixels


def registered(classifier: Classifier, channels: int) -> Extractor:
    weights = b"".join(tensor.numpy().tobytes() for tensor in classifier.state_dict().values())
    return classifier_extractor(classifier, channels=channels, sha256=hashlib.sha256(weights).hexdigest())


def untrained(channels: int, seed: int = 0) -> Classifier:
    """Return random weights, so large that features of other images lie far apart."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        classifier = Classifier(size=8, channels=channels, classes=5).requires_grad_(False)
    for parameter in classifier.parameters():
        parameter.mul_(3)
    return classifier


def score(
    extractor: Extractor, pixels: Tensor, reference: Tensor, *, batch_size: int = 64, isc_splits: int = 3
) -> Scores:
    options: dict[str, Any] = {"device": CPU, "batch_size": batch_size, "isc_splits": isc_splits}
    return scores(extractor, {"only": pixels}, reference, **options)["only"]


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


@pytest.mark.parametrize("channels", [1, 3])
def test_scores_are_their_formulas_on_the_extractors_features(channels: int) -> None:
    classifier = untrained(channels)
    pixels = random_pixels(150, size=8, channels=channels, seed=1)
    reference = random_pixels(170, size=8, channels=channels, seed=2) // 2
    found = score(registered(classifier, channels), pixels, reference, isc_splits=1)
    features, logits = classifier(to_unit_range(pixels))
    expected = frechet_distance(features, classifier(to_unit_range(reference))[0])
    assert expected > 1
    assert found.fid == pytest.approx(expected, rel=1e-5)
    assert found.isc == pytest.approx(inception_score(logits), rel=1e-6)
    assert found.isc > 1.1
    assert found.isc_std == 0


def test_the_distance_agrees_with_the_matrix_square_root() -> None:
    classifier = digits_classifier()
    images, _ = digits()
    first, second = (classifier(to_unit_range(part))[0].double() for part in (images[:400], images[400:900] // 2))
    s1, s2 = (np.cov(part.numpy(), rowvar=False) + 1e-9 * np.eye(FEATURES) for part in (first, second))
    squared = float((first.mean(dim=0) - second.mean(dim=0)).square().sum())
    expected = squared + float(np.trace(s1 + s2 - 2 * np.real(sqrtm(s1 @ s2))))
    assert score(registered(classifier, 1), images[:400], images[400:900] // 2).fid == pytest.approx(expected, rel=1e-4)


def test_the_inception_score_is_averaged_over_its_splits() -> None:
    classifier = digits_classifier()
    images = digits()[0][:90]
    # torch-fidelity shuffles with its own seed before it splits.
    order = np.random.RandomState(2020).permutation(90)
    logits = classifier(to_unit_range(images[torch.tensor(order)]))[1]
    parts = [inception_score(part) for part in logits.split(30)]
    found = score(registered(classifier, 1), images, images, isc_splits=3)
    assert found.isc == pytest.approx(np.mean(parts), rel=1e-5)
    assert found.isc_std == pytest.approx(np.std(parts), rel=1e-3)


def test_a_set_is_no_distance_from_itself_and_order_does_not_matter() -> None:
    extractor = registered(digits_classifier(), 1)
    images, _ = digits()
    here, there = images[:500], images[500:1000] // 2
    apart = score(extractor, here, there).fid
    assert apart > 1
    assert score(extractor, here, here).fid == pytest.approx(0, abs=1e-3 * apart)
    assert score(extractor, there, here).fid == pytest.approx(apart, rel=1e-5)
    assert score(extractor, here, there, batch_size=7).fid == pytest.approx(apart, rel=1e-5)


def test_noise_scores_worse_than_real_images() -> None:
    images, _ = digits()
    noise = uniform_noise((400, 1, 8, 8), stream(0, "noise"))
    found = scores(
        registered(digits_classifier(), 1),
        {"real": images[1300:], "noise": noise},
        images[:1300],
        device=CPU,
        batch_size=200,
        isc_splits=2,
    )
    assert list(found) == ["real", "noise"]
    assert found["noise"].fid > 10 * found["real"].fid > 0
    assert found["real"].isc > 1.5 * found["noise"].isc


def test_several_sets_score_what_each_scores_alone() -> None:
    extractor = registered(untrained(1), 1)
    sets = {name: random_pixels(80, size=8, seed=seed) // (seed + 1) for name, seed in (("a", 0), ("b", 1), ("c", 2))}
    reference = random_pixels(90, size=8, seed=9)
    together = scores(extractor, sets, reference, device=CPU, batch_size=64, isc_splits=3)
    assert together == {name: score(extractor, pixels, reference) for name, pixels in sets.items()}
    assert len({found.fid for found in together.values()}) == 3


def test_a_new_reference_is_never_answered_from_an_old_cache() -> None:
    extractor = registered(untrained(1), 1)
    pixels = random_pixels(80, size=8, seed=0)
    references = [random_pixels(80, size=8, seed=seed) // seed for seed in (1, 2, 3)]
    assert len({score(extractor, pixels, reference).fid for reference in references}) == 3
    assert score(extractor, pixels, pixels).fid == pytest.approx(0, abs=1e-4)


def test_each_classifier_has_its_own_name_and_may_be_registered_again() -> None:
    first, second = untrained(1, seed=1), untrained(1, seed=2)
    extractors = [registered(first, 1), registered(second, 1), registered(first, 1)]
    assert extractors[0] == extractors[2]
    assert extractors[0].registered_name != extractors[1].registered_name
    assert (extractors[0].weights, extractors[0].features) == (None, FEATURES)
    pixels, reference = random_pixels(80, size=8), random_pixels(80, size=8, seed=1) // 2
    found = [score(extractor, pixels, reference).fid for extractor in extractors]
    assert found[0] == found[2] != found[1]


def test_scoring_moves_no_weight() -> None:
    classifier = untrained(1)
    before = [parameter.clone() for parameter in classifier.parameters()]
    score(registered(classifier, 1), random_pixels(20, size=8), random_pixels(20, size=8, seed=1))
    assert all(torch.equal(old, new) for old, new in zip(before, classifier.parameters(), strict=True))


@pytest.mark.parametrize("channels", [1, 3])
def test_torch_fidelity_sees_three_channels_of_bytes(channels: int) -> None:
    pixels = random_pixels(4, size=8, channels=channels)
    dataset = PixelDataset(pixels)
    assert len(dataset) == 4
    for index in range(4):
        assert dataset[index].dtype == torch.uint8
        assert dataset[index].shape == (3, 8, 8)
        for channel in range(3):
            assert torch.equal(dataset[index][channel], pixels[index, channel % channels])


def test_noise_is_uniform_on_all_bytes() -> None:
    noise = uniform_noise((1000, 1, 16, 16), stream(0, "noise"))
    counts = torch.bincount(noise.flatten().long(), minlength=256)
    assert (noise.dtype, noise.shape) == (torch.uint8, (1000, 1, 16, 16))
    # Expected 1,000 each; eight standard deviations.
    assert counts.tolist() == pytest.approx([1000] * 256, abs=256)
    assert torch.equal(noise, uniform_noise((1000, 1, 16, 16), stream(0, "noise")))
    assert not torch.equal(noise, uniform_noise((1000, 1, 16, 16), stream(1, "noise")))


@pytest.mark.slow
def test_inception_reads_its_weights_from_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    architecture = feature_extractor_inceptionv3.FeatureExtractorInceptionV3
    with monkeypatch.context() as patched, torch.random.fork_rng():
        # Its constructor insists on weights: give it none to read, so that the random ones stay.
        patched.setattr(feature_extractor_inceptionv3, "load_state_dict_from_url", lambda *_, **__: {})
        patched.setattr(architecture, "load_state_dict", lambda *_, **__: None)
        torch.manual_seed(0)
        network = architecture("random", ["2048"])
    path = tmp_path / "inception.pth"
    torch.save(network.state_dict(), path)
    extractor = inception_extractor(path)
    assert (extractor.weights, extractor.features) == (path, 2048)
    pixels, reference = random_pixels(6, size=16), random_pixels(5, size=16, seed=1) // 2
    found = score(extractor, pixels, reference, isc_splits=1)
    features = [network(part.expand(-1, 3, -1, -1))[0] for part in (pixels, reference)]
    assert found.fid == pytest.approx(frechet_distance(*features), rel=1e-2)
    assert np.isfinite(found.fid)
    assert 1 <= found.isc < 1008
