import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from gan_core.metrics.classifier import FEATURES, Classifier, accuracy, train_classifier
from gan_core.runtime.adam import Adam
from gan_core.runtime.pixels import to_unit_range
from tests.gan_core.examples import EXTRACTOR, digits, digits_classifier, random_pixels, same_bits, snapshot

PIXELS, LABELS = random_pixels(50, size=8), torch.arange(50) % 3


def a_classifier() -> Classifier:
    return Classifier(size=8, channels=1, classes=3)


def fitted(**changes: Any) -> tuple[dict[str, Tensor], list[tuple[int, float]]]:
    classifier = a_classifier()
    progress = list(train_classifier(replace(EXTRACTOR, **changes), classifier, PIXELS, LABELS))
    return snapshot(classifier), progress


@pytest.mark.parametrize("size", [8, 9, 15, 28, 33, 64])
@pytest.mark.parametrize("channels", [1, 3])
def test_features_and_logits_at_every_size(size: int, channels: int) -> None:
    classifier = Classifier(size=size, channels=channels, classes=7)
    features, logits = classifier(to_unit_range(random_pixels(2, size=size, channels=channels)))
    assert features.shape == (2, FEATURES)
    assert features.min() == 0
    assert logits.shape == (2, 7)
    assert torch.equal(logits, classifier.logits(features))


def test_digits_are_learned_in_a_few_epochs() -> None:
    images, labels = digits()
    held_out = accuracy(digits_classifier(), images[1300:], labels[1300:], 100)
    assert 0.9 < held_out < 1
    assert accuracy(digits_classifier(), images[:1300], labels[:1300], 100) > 0.95


def test_the_seed_alone_decides_the_weights() -> None:
    torch.manual_seed(1)
    first = fitted()
    torch.manual_seed(2)
    again = fitted()
    assert same_bits(first[0], again[0])
    assert first[1] == again[1]
    assert not same_bits(first[0], fitted(seed=1)[0])


def test_earlier_weights_do_not_matter() -> None:
    classifier = a_classifier()
    for _ in range(2):
        list(train_classifier(EXTRACTOR, classifier, PIXELS, LABELS))
    assert same_bits(snapshot(classifier), fitted()[0])


def test_each_epoch_has_an_order_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    orders: list[list[int]] = []
    split: Callable[..., Any] = torch.Tensor.split

    def recorded(order: Tensor, *arguments: Any, **options: Any) -> Any:
        if order.dtype == torch.int64 and len(order) == len(PIXELS):
            orders.append(order.tolist())
        return split(order, *arguments, **options)

    monkeypatch.setattr(torch.Tensor, "split", recorded)
    fitted(epochs=3)
    assert len(orders) == 3
    assert all(sorted(order) == list(range(50)) for order in orders)
    assert len({tuple(order) for order in orders}) == 3


@pytest.mark.parametrize("batch_size", [50, 16, 7])
def test_an_epochs_loss_is_the_mean_over_all_images(batch_size: int) -> None:
    # At a vanishing learning rate the weights stand still, so the mean over batches is the loss of the whole set.
    classifier = a_classifier()
    config = replace(EXTRACTOR, learning_rate=1e-30, batch_size=batch_size, epochs=2)
    progress = list(train_classifier(config, classifier, PIXELS, LABELS))
    with torch.no_grad():
        probs = classifier(to_unit_range(PIXELS))[1].double().softmax(dim=1)
    expected = -sum(math.log(probs[index, label]) for index, label in enumerate(LABELS)) / 50
    assert [epoch for epoch, _ in progress] == [1, 2]
    assert [loss for _, loss in progress] == pytest.approx([expected] * 2, rel=1e-5)


def test_the_learning_rate_falls_linearly_to_zero(monkeypatch: pytest.MonkeyPatch) -> None:
    rates: list[float | Tensor] = []
    monkeypatch.setattr(Adam, "step", lambda optimizer: rates.append(optimizer.learning_rate))
    fitted(epochs=4, batch_size=25, learning_rate=0.08)
    assert rates == pytest.approx([0.08, 0.08, 0.06, 0.06, 0.04, 0.04, 0.02, 0.02], rel=1e-12)


@pytest.mark.parametrize("batch_size", [1, 7, 50, 1000])
def test_accuracy_is_a_count_by_hand(batch_size: int) -> None:
    classifier = a_classifier()
    list(train_classifier(EXTRACTOR, classifier, PIXELS, LABELS))
    unseen = random_pixels(50, size=8, seed=1)
    logits = torch.cat([classifier(to_unit_range(unseen[index : index + 1]))[1] for index in range(50)])
    right = sum(row.index(max(row)) == label for row, label in zip(logits.tolist(), LABELS.tolist(), strict=True))
    assert 0 < right < 50
    assert accuracy(classifier, unseen, LABELS, batch_size) == right / 50
