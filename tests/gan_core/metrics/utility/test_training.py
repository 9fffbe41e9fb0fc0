from collections import Counter
from collections.abc import Callable
from itertools import product

import pytest
import torch
from torch import Generator, Tensor

from gan_core.metrics.classifier import Classifier
from gan_core.metrics.utility import training
from gan_core.metrics.utility.gain import WAYS
from gan_core.metrics.utility.training import (
    BATCH,
    ROUND,
    Labelled,
    accuracies,
    new_classifiers,
    shifted,
    train_on_each,
)
from gan_core.runtime.adam import Adam
from gan_core.runtime.randomness import stream
from tests.gan_core.examples import CPU, digits, random_pixels, same_bits, snapshot

FEW = Labelled(random_pixels(10, size=8), torch.arange(10))
"""One image of each class, so that labels name images."""


def rounds(count: int, real: Labelled, generated: training.Draw, *, seed: int = 0) -> dict[str, Classifier]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "ROUNDS", count)
        classifiers = new_classifiers(real.images, 10, CPU)
        assert list(train_on_each(classifiers, real, generated, seed=seed, mirror=False)) == [*range(1, count + 1)]
    return classifiers


def copies(labels: Tensor, rng: Generator) -> Tensor:
    return FEW.images[labels]


def noise(labels: Tensor, rng: Generator) -> Tensor:
    return torch.randint(256, (len(labels), 1, 8, 8), generator=rng, dtype=torch.uint8)


def drawn(real: Labelled) -> training.Draw:
    """Return a generator that has learned everything: it draws one of the real images of a class."""
    by_class = [real.images[real.labels == label] for label in range(10)]

    def draw(labels: Tensor, rng: Generator) -> Tensor:
        places = torch.rand(len(labels), generator=rng)
        return torch.stack(
            [by_class[label][int(place * len(by_class[label]))] for label, place in zip(labels, places, strict=True)]
        )

    return draw


@pytest.fixture(scope="module")
def measured() -> dict[str, dict[str, list[float]]]:
    """Return accuracies of two seeds on 200 real digits, with a generator of real images and one of noise."""
    images, labels = digits()
    real, test = Labelled(images[:200], labels[:200]), Labelled(images[1300:], labels[1300:])

    def of(generated: training.Draw) -> dict[str, list[float]]:
        seeds = [accuracies(rounds(40, real, generated, seed=seed), test) for seed in (0, 1)]
        return {way: [values[way] for values in seeds] for way in WAYS}

    return {"real images": of(drawn(real)), "noise": of(noise)}


def test_copies_of_the_real_images_teach_bit_for_bit_what_these_teach() -> None:
    weights = {way: snapshot(classifier) for way, classifier in rounds(2, FEW, copies).items()}
    assert same_bits(weights["generated"], weights["real"])
    assert same_bits(weights["real_generated"], weights["real"])
    assert not same_bits(weights["shifted"], weights["real"])
    assert not same_bits(weights["shifted_generated"], weights["shifted"])


def test_the_seed_decides_everything() -> None:
    first, again, other = (rounds(1, FEW, noise, seed=seed) for seed in (0, 0, 1))
    for way in WAYS:
        assert same_bits(snapshot(first[way]), snapshot(again[way]))
        assert not same_bits(snapshot(first[way]), snapshot(other[way]))


def test_every_way_has_as_many_steps_and_images(monkeypatch: pytest.MonkeyPatch) -> None:
    steps, shown = Counter[int](), Counter[int]()
    forward: Callable[..., tuple[Tensor, Tensor]] = Classifier.forward

    def counting(self: Classifier, images: Tensor) -> tuple[Tensor, Tensor]:
        shown[id(self)] += len(images)
        return forward(self, images)

    monkeypatch.setattr(Classifier, "forward", counting)
    monkeypatch.setattr(Adam, "step", lambda optimizer: steps.update([id(optimizer.parameters[0])]))
    classifiers = rounds(3, FEW, noise)
    assert sorted(steps.values()) == [3 * ROUND // BATCH] * len(WAYS)
    assert dict(shown) == {id(classifier): 3 * ROUND for classifier in classifiers.values()}
    assert training.STEPS * BATCH == training.ROUNDS * ROUND


def test_generated_images_are_always_new_and_of_the_real_classes() -> None:
    images, labels = digits()
    asked: list[Tensor] = []
    latents: list[Tensor] = []

    def draw(labels: Tensor, rng: Generator) -> Tensor:
        asked.append(labels)
        latents.append(torch.rand(4, generator=rng))
        return torch.zeros(len(labels), 1, 8, 8, dtype=torch.uint8)

    odd = labels % 2 == 1
    rounds(3, Labelled(images[odd], labels[odd]), draw)
    assert len(torch.stack(latents).unique(dim=0)) == 3
    counts = torch.bincount(torch.cat(asked), minlength=10)
    assert (counts[::2] == 0).all()
    assert (counts[1::2] - 3 * ROUND / 5).abs().max() < 5 * (3 * ROUND * 0.16) ** 0.5


def test_a_generator_of_real_images_is_as_good_as_these(measured: dict[str, dict[str, list[float]]]) -> None:
    means = {way: sum(values) / 2 for way, values in measured["real images"].items()}
    assert means["real"] > 0.75
    assert means["generated"] == pytest.approx(means["real"], abs=0.03)
    assert means["real_generated"] == pytest.approx(means["real"], abs=0.03)


def test_noise_with_right_labels_teaches_nothing(measured: dict[str, dict[str, list[float]]]) -> None:
    of_noise, of_real = measured["noise"], measured["real images"]
    assert max(of_noise["generated"]) < 0.3
    assert (of_noise["real"], of_noise["shifted"]) == (of_real["real"], of_real["shifted"])  # without generated images
    for mixed, alone in (("real_generated", "real"), ("shifted_generated", "shifted")):
        assert sum(of_noise[mixed]) <= sum(of_noise[alone])


def test_accuracy_is_of_the_test_images() -> None:
    images, labels = digits()
    constant = Classifier(size=8, channels=1, classes=10).requires_grad_(False)
    constant.logits.weight.zero_()
    constant.logits.bias.copy_(torch.arange(10) == 3)
    share = accuracies({"real": constant}, Labelled(images[:500], labels[:500]))["real"]
    assert share == (labels[:500] == 3).double().mean().item()


@pytest.mark.parametrize("mirror", [False, True])
@pytest.mark.parametrize(("size", "largest"), [(8, 1), (28, 4)])
def test_each_image_is_shifted_by_a_window_of_its_padded_self(size: int, largest: int, mirror: bool) -> None:
    image = random_pixels(1, size=size, channels=3)
    count = 20 * (2 * largest + 1) ** 2
    moved = shifted(image.expand(count, -1, -1, -1), stream(0, "test shifts"), mirror=mirror)
    padded = torch.nn.functional.pad(image.float(), [largest] * 4, mode="replicate").to(torch.uint8)[0]
    offsets = list(product(range(2 * largest + 1), repeat=2))
    windows = [padded[:, down : down + size, right : right + size] for down, right in offsets]
    windows += [window.flip(2) for window in windows] if mirror else []
    equal = torch.stack([(moved == window).flatten(1).all(dim=1) for window in windows])
    assert (equal.sum(dim=0) == 1).all()
    expected = count / len(windows)
    assert (equal.sum(dim=1) - expected).abs().max() < 5 * expected**0.5
