"""A small convolutional classifier of the real images, whose last hidden layer is a feature space."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from gan_core.config import ExtractorConfig
from gan_core.runtime.adam import Adam
from gan_core.runtime.pixels import to_unit_range
from gan_core.runtime.randomness import stream

FEATURES = 64
"""Dimension of the feature space; FID needs many more images than this."""


class Classifier(nn.Module):
    """Strided convolutions down to at most 4 x 4 pixels, 64 rectifiers (the features), and class logits."""

    def __init__(self, *, size: int, channels: int, classes: int) -> None:
        super().__init__()
        widths, side = [channels, 16], size
        layers: list[nn.Module] = [nn.Conv2d(channels, 16, 3, padding=1), nn.ReLU()]
        while side > 4:
            widths.append(min(2 * widths[-1], 128))
            layers += [nn.Conv2d(widths[-2], widths[-1], 3, stride=2, padding=1), nn.ReLU()]
            side = (side + 1) // 2
        self.hidden = nn.Sequential(*layers, nn.Flatten(), nn.Linear(widths[-1] * side**2, FEATURES), nn.ReLU())
        self.logits = nn.Linear(FEATURES, classes)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return features (B, 64) and logits (B, K) for images (B, C, H, W) in [-1, 1]."""
        features = self.hidden(images)
        return features, self.logits(features)


def train_classifier(
    config: ExtractorConfig, classifier: Classifier, images: Tensor, labels: Tensor
) -> Iterator[tuple[int, float]]:
    """Fit the classifier with Adam on cross-entropy, in place; the learning rate falls linearly to zero.

    Args:
        config: epochs, batch size, learning rate and seed (of the weights and of the order of images).
        classifier: changed in place, its weights first drawn anew from the seed.
        images: (N, C, H, W) uint8, on the classifier's device or on the CPU, perhaps mapped from a file; batches are
            read.
        labels: (N,) class indices on the classifier's device.

    Yields:
        Epoch, from 1, and the mean loss over it in nats.
    """
    _initialise(classifier, stream(config.seed, "classifier weights"))
    optimizer = Adam(classifier, config.learning_rate, fused=labels.is_cuda)
    for epoch in range(1, config.epochs + 1):
        optimizer.learning_rate = config.learning_rate * (1 - (epoch - 1) / config.epochs)
        order = torch.randperm(len(images), generator=stream(config.seed, "classifier order", epoch))
        total = torch.zeros((), device=labels.device)
        for index in order.split(config.batch_size):
            batch = images[index.to(images.device)].to(labels.device)
            _, logits = classifier(to_unit_range(batch))
            loss = cross_entropy(logits, labels[index.to(labels.device)])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.detach() * len(index)
        yield epoch, total.item() / len(images)


def _initialise(classifier: Classifier, rng: torch.Generator) -> None:
    for module in classifier.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            assert module.bias is not None
            values = torch.randn(module.weight.shape, generator=rng) * (2 / module.weight[0].numel()) ** 0.5
            module.weight.data.copy_(values)
            nn.init.zeros_(module.bias)


@torch.no_grad()
def accuracy(classifier: Classifier, images: Tensor, labels: Tensor, batch_size: int) -> float:
    """Return top-1 accuracy, in [0, 1], on images (N, C, H, W) uint8, anywhere, and labels (N,) where it computes."""
    batches = (batch.to(labels.device) for batch in images.split(batch_size))
    logits = torch.cat([classifier(to_unit_range(batch))[1] for batch in batches])
    return (logits.argmax(dim=1) == labels).double().mean().item()
