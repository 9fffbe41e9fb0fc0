"""Frechet Inception Distance and Inception Score through torch-fidelity, under an extractor that is named.

FID (Heusel et al. 2017, equation 6) is |m1 - m2|^2 + Tr(S1 + S2 - 2 (S1 S2)^(1/2)) for the means and covariances of
features; IS (Salimans et al. 2016, equation 1) is exp E KL(p(y|x) || p(y)). torch-fidelity computes both.
"""

from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import torch
import torch_fidelity
from torch import Tensor
from torch.utils.data import Dataset
from torch_fidelity.registry import FEATURE_EXTRACTORS_REGISTRY

from gan_core.classifier import FEATURES, Classifier
from gan_core.images import to_unit_range


@dataclass(frozen=True)
class Extractor:
    """A feature extractor that is registered with torch-fidelity.

    `registered_name` is torch-fidelity's name for it, `weights` the file that it reads there (Inception only), and
    `features` the dimension of its feature space.
    """

    registered_name: str
    weights: Path | None
    features: int


class PixelDataset(Dataset[Tensor]):
    """uint8 images (N, 3, H, W) as torch-fidelity wants them: bare tensors; one channel is shown as three."""

    def __init__(self, pixels: Tensor) -> None:
        self.pixels = pixels

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, index: int) -> Tensor:
        return self.pixels[index].expand(3, -1, -1)


def classifier_extractor(classifier: Classifier, *, channels: int, sha256: str) -> Extractor:
    """Register a trained classifier and return it as an extractor.

    Args:
        classifier: gives features (B, 64) and logits (B, K).
        channels: of the images that it was trained on, 1 or 3.
        sha256: of its weights; makes the registered name unique, so that no cache can mix two extractors.

    Returns:
        The extractor under the name `classifier-` and 16 digits of the sum.
    """
    name = f"classifier-{sha256[:16]}"

    class ClassifierFeatures(torch_fidelity.FeatureExtractorBase):  # type: ignore[misc]  # torch-fidelity is untyped
        def __init__(self, name: str, features_list: list[str], **_: Any) -> None:
            super().__init__(name, features_list)
            self.classifier = classifier

        @staticmethod
        def get_provided_features_list() -> tuple[str, ...]:
            return ("features", "logits")

        @staticmethod
        def get_default_feature_layer_for_metric(metric: Literal["isc", "fid", "kid", "prc"]) -> str:
            return "logits" if metric == "isc" else "features"

        @staticmethod
        def can_be_compiled() -> bool:
            return False

        def forward(self, pixels: Tensor) -> tuple[Tensor, ...]:
            features, logits = self.classifier(to_unit_range(pixels[:, :channels]))
            found = {"features": features, "logits": logits}
            return tuple(found[layer] for layer in self.features_list)

    if name not in FEATURE_EXTRACTORS_REGISTRY:
        torch_fidelity.register_feature_extractor(name, ClassifierFeatures)
    return Extractor(name, None, FEATURES)


def inception_extractor(weights: Path) -> Extractor:
    """Return torch-fidelity's Inception-v3 on a weights file, whose sha256 the caller has verified: it is unpickled."""
    return Extractor("inception-v3-compat", weights, 2048)


@dataclass(frozen=True)
class Scores:
    """FID against the reference images, and the Inception Score with its standard deviation over splits."""

    fid: float
    isc: float
    isc_std: float


def scores(
    extractor: Extractor,
    sets: dict[str, Tensor],
    reference: Tensor,
    *,
    device: torch.device,
    batch_size: int,
    isc_splits: int,
) -> dict[str, Scores]:
    """Return FID and IS of each set of images against one reference, whose features are extracted once.

    Args:
        extractor: gives the features.
        sets: uint8 images (N, C, H, W) by name.
        reference: uint8 images (M, C, H, W).
        device: where features are extracted.
        batch_size: images at once.
        isc_splits: parts over which IS is averaged, at most N.

    Returns:
        Scores by the names of `sets`.
    """
    with TemporaryDirectory() as cache:  # lives for this call: a cache that outlives its reference returns stale scores
        return {
            name: _score(extractor, pixels, reference, device, batch_size, isc_splits, cache)
            for name, pixels in sets.items()
        }


def _score(
    extractor: Extractor,
    pixels: Tensor,
    reference: Tensor,
    device: torch.device,
    batch_size: int,
    isc_splits: int,
    cache: str,
) -> Scores:
    found = torch_fidelity.calculate_metrics(
        input1=PixelDataset(pixels),
        input2=PixelDataset(reference),
        input2_cache_name="reference",
        cache_root=cache,
        feature_extractor=extractor.registered_name,
        feature_extractor_weights_path=extractor.weights and str(extractor.weights),
        fid=True,
        isc=True,
        isc_splits=isc_splits,
        batch_size=batch_size,
        cuda=device.type == "cuda",
        save_cpu_ram=True,  # no loader workers: the images are in memory already
        verbose=False,
    )
    return Scores(found["frechet_inception_distance"], found["inception_score_mean"], found["inception_score_std"])


def uniform_noise(shape: tuple[int, ...], rng: torch.Generator) -> Tensor:
    """Return uint8 pixels of a shape, uniform on [0, 255]: the worst generator that a score should know."""
    return torch.randint(256, shape, generator=rng, dtype=torch.uint8)
