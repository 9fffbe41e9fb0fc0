from pathlib import Path

import pytest
import torch
from torch_fidelity.utils import get_featuresdict_from_dataset

from benchmarks.peers.fidelity import Shown, as_theirs
from gan_core.metrics.classifier import FEATURES
from gan_core.metrics.features import classifier_extractor, extract, inception_extractor
from gan_core.runtime.pixels import to_unit_range
from tests.gan_core.examples import CPU, random_inception, random_pixels, registered, untrained


@pytest.mark.parametrize("channels", [1, 3])
def test_features_and_logits_are_the_classifiers(channels: int) -> None:
    classifier = untrained(channels)
    pixels = random_pixels(70, size=8, channels=channels)
    extracted = extract(registered(classifier, channels), pixels, device=CPU, batch_size=70)
    features, logits = classifier(to_unit_range(pixels))
    assert torch.equal(extracted.features, features)
    assert torch.equal(extracted.logits, logits)
    assert extracted.features.std() > 0.1


def test_logits_may_be_left_out() -> None:
    extractor, pixels = registered(untrained(1), 1), random_pixels(20, size=8)
    both, alone = (
        extract(extractor, pixels, device=CPU, batch_size=8, with_logits=with_logits) for with_logits in (True, False)
    )
    assert torch.equal(alone.features, both.features)
    assert alone.logits.shape == (20, 0)


@pytest.mark.parametrize("batch_size", [64, 7])
def test_the_bits_are_those_of_torch_fidelitys_loop(batch_size: int) -> None:
    extractor = registered(untrained(1), 1)
    pixels = random_pixels(150, size=8)
    extracted = extract(extractor, pixels, device=CPU, batch_size=batch_size)
    network = as_theirs(extractor)(extractor.name, ["features", "logits"])
    theirs = get_featuresdict_from_dataset(Shown(pixels), network, batch_size, False, True, False)
    assert torch.equal(extracted.features, theirs["features"])
    assert torch.equal(extracted.logits, theirs["logits"])


def test_each_classifier_has_its_own_name() -> None:
    first, second = untrained(1, seed=1), untrained(1, seed=2)
    extractors = [registered(first, 1), registered(second, 1), registered(first, 1)]
    assert extractors[0].name == extractors[2].name != extractors[1].name
    assert extractors[0].dimension == FEATURES
    pixels = random_pixels(5, size=8)
    first_features, other, again = (extract(each, pixels, device=CPU, batch_size=5).features for each in extractors)
    assert torch.equal(first_features, again)
    assert not torch.equal(first_features, other)


def test_the_sum_of_the_weights_is_in_the_name() -> None:
    assert classifier_extractor(untrained(1), channels=1, sha256="ab" * 32).name == "classifier-abababababababab"


def test_extracting_moves_no_weight_and_needs_no_gradient() -> None:
    classifier = untrained(1)
    before = [parameter.clone() for parameter in classifier.parameters()]
    extracted = extract(registered(classifier, 1), random_pixels(20, size=8), device=CPU, batch_size=8)
    assert not extracted.features.requires_grad
    assert all(torch.equal(old, new) for old, new in zip(before, classifier.parameters(), strict=True))


@pytest.mark.slow
def test_inception_reads_its_weights_from_the_file(tmp_path: Path) -> None:
    path = random_inception(tmp_path / "inception.pth")
    extractor = inception_extractor(path, CPU)
    assert extractor.dimension == 2048
    extracted = extract(extractor, random_pixels(5, size=16), device=CPU, batch_size=3)
    assert (extracted.features.shape, extracted.logits.shape) == ((5, 2048), (5, 1008))
    weights = torch.load(path, weights_only=True)
    assert torch.equal(extractor.network.state_dict()["fc.weight"], weights["fc.weight"])
    expected = extracted.features @ weights["fc.weight"].T
    assert torch.allclose(extracted.logits, expected, rtol=1e-4, atol=1e-5)
