"""Features of images, extracted once for all metrics by an extractor that has a name."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from gan_core.metrics.classifier import FEATURES, Classifier
from gan_core.metrics.efficientnet import DIMENSION, load_efficientnet
from gan_core.runtime.pixels import to_unit_range


@dataclass(frozen=True)
class Extractor:
    """A feature extractor.

    `network` maps uint8 images (B, 3, H, W) to features (B, F) and logits (B, K), F being `dimension`.
    """

    name: str
    network: nn.Module
    dimension: int


@dataclass(frozen=True)
class Features:
    """Of N images: features (N, F) and logits (N, K), float32 on the CPU; K is 0 if no logits were asked for."""

    features: Tensor
    logits: Tensor


class _Classified(nn.Module):
    """A classifier, which may read one channel, as a network of an extractor."""

    def __init__(self, classifier: Classifier, channels: int) -> None:
        super().__init__()
        self.classifier, self.channels = classifier, channels
        self.requires_grad_(requires_grad=False).eval()

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        features, logits = self.classifier(to_unit_range(pixels[:, : self.channels]))
        return features, logits


def classifier_extractor(classifier: Classifier, *, channels: int, sha256: str) -> Extractor:
    """Return a trained classifier as an extractor.

    Args:
        classifier: gives features (B, 64) and logits (B, K), on its own device.
        channels: of the images that it was trained on, 1 or 3.
        sha256: of its weights; makes the name unique, so that no two extractors share one.

    Returns:
        The extractor, named `classifier-` and the first 16 digits of the sum.
    """
    return Extractor(f"classifier-{sha256[:16]}", _Classified(classifier, channels), FEATURES)


def inception_extractor(weights: Path, device: torch.device) -> Extractor:
    """Return torch-fidelity's Inception-v3 on a weights file, whose sha256 the caller has verified: it is unpickled."""
    from torch_fidelity.utils import create_feature_extractor  # takes seconds, which scores by others need not wait

    name, layers = "inception-v3-compat", ["2048", "logits_unbiased"]
    options = {"feature_extractor_weights_path": str(weights), "verbose": False}
    return Extractor(name, create_feature_extractor(name, layers, cuda=device.type == "cuda", **options), 2048)


def efficientnet_extractor(weights: Path, device: torch.device) -> Extractor:
    """Return EfficientNet-Lite0 on a weights file, whose sha256 the caller has verified."""
    return Extractor("efficientnet-lite0", load_efficientnet(weights).to(device), DIMENSION)


def joined(parts: Iterable[Features]) -> Features:
    """Return the features of the images of all parts, in order."""
    listed = [*parts]
    return Features(torch.cat([part.features for part in listed]), torch.cat([part.logits for part in listed]))


@torch.no_grad()
def extract(
    extractor: Extractor, pixels: Tensor, *, device: torch.device, batch_size: int, with_logits: bool = True
) -> Features:
    """Return features and logits of pixels (N, C, H, W) uint8, in order, by an extractor on `device`.

    One channel is repeated as three. Bits are those of torch-fidelity's own loop under the same batch size. Those of
    many images take gigabytes, so features are written to their place at once, and logits may be left out.
    """
    features, logits = torch.empty(len(pixels), extractor.dimension), list[Tensor]()
    for rows, batch in zip(features.split(batch_size), pixels.split(batch_size), strict=True):
        values, scores = extractor.network(batch.to(device).expand(-1, 3, -1, -1))
        rows.copy_(values)
        if with_logits:
            logits.append(scores.cpu())
    return Features(features, torch.cat(logits) if with_logits else torch.empty(len(pixels), 0))
