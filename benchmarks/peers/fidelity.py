"""Images and extractors as torch-fidelity takes them, so that it scores what this project scores."""

from collections.abc import Mapping
from typing import Any, Literal

import torch_fidelity
from torch import Tensor
from torch.utils.data import Dataset

from gan_core.metrics.features import Extractor


class Shown(Dataset[Tensor]):
    """A data set of images as torch-fidelity reads it: one by one, in three channels."""

    def __init__(self, pixels: Tensor) -> None:
        self.pixels = pixels

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, index: int) -> Tensor:
        return self.pixels[index].expand(3, -1, -1)


def as_theirs(extractor: Extractor) -> "type[torch_fidelity.FeatureExtractorBase]":
    """Return the class of an extractor for torch-fidelity's registry."""

    class Theirs(torch_fidelity.FeatureExtractorBase):  # type: ignore[misc]  # torch-fidelity is untyped
        def __init__(self, name: str, features_list: list[str], **_: Any) -> None:
            super().__init__(name, features_list)
            self.network = extractor.network

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
            outputs = dict(zip(("features", "logits"), self.network(pixels), strict=True))
            return tuple(outputs[name] for name in self.features_list)

    return Theirs


def register(extractor: Extractor) -> None:
    """Let torch-fidelity know an extractor by its name."""
    torch_fidelity.register_feature_extractor(extractor.name, as_theirs(extractor))


def register_images(images: Mapping[str, Tensor]) -> None:
    """Let torch-fidelity know images (N, C, H, W) uint8 by their names."""
    for name, pixels in images.items():
        torch_fidelity.register_dataset(name, lambda root, download, pixels=pixels: Shown(pixels))
