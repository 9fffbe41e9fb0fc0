from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from sklearn.datasets import load_sample_images
from torch import Tensor
from torch.nn.functional import avg_pool2d, conv2d, interpolate

from gan_core.metrics import efficientnet
from gan_core.metrics.efficientnet import EfficientNetLite0, SameConv2d
from gan_core.metrics.features import Extractor, efficientnet_extractor, extract
from gan_core.metrics.scores import Reference, fid, mind, uniform_noise
from gan_core.runtime.randomness import stream
from gan_core.runtime.tensor_files import load_tensors
from stages.extractor import _provide_efficientnet
from tests.gan_core.examples import CPU


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> EfficientNetLite0:
    """Return the network with the weights that are installed."""
    path: Path = tmp_path_factory.mktemp("weights") / "weights.safetensors"
    _provide_efficientnet(path)
    network = EfficientNetLite0()
    network.load_state_dict(load_tensors(path)[0])
    return network.eval().requires_grad_(False)


@pytest.mark.parametrize(("side", "kernel", "stride"), [(7, 3, 2), (8, 3, 2), (8, 5, 2), (9, 5, 1), (6, 1, 1)])
def test_padding_is_tensorflows(side: int, kernel: int, stride: int) -> None:
    layer, images = SameConv2d(2, 3, kernel, stride), torch.randn(1, 2, side, side)
    ours = layer(images)
    wide = torch.zeros(1, 2, side + 2 * kernel, side + 2 * kernel)
    wide[..., kernel : kernel + side, kernel : kernel + side] = images
    outputs = -(-side // stride)
    missing = max((outputs - 1) * stride + kernel - side, 0)
    first = kernel - missing // 2
    theirs = conv2d(wide[..., first:, first:], layer.weight, stride=stride)[..., :outputs, :outputs]
    assert torch.allclose(ours, theirs, atol=1e-5)


def test_photographs_are_recognised(network: EfficientNetLite0, monkeypatch: pytest.MonkeyPatch) -> None:
    """At the size of its training the network names a palace and a flower: architecture and weights fit together."""
    monkeypatch.setattr(efficientnet, "SIDE", 224)
    squares = [torch.tensor(picture[:, 100:527]) for picture in load_sample_images().images]
    palace, flower = (network(square.permute(2, 0, 1)[None])[1].argmax().item() for square in squares)
    assert (palace, flower) == (698, 985)  # of ImageNet's classes: palace, daisy


@pytest.fixture(scope="module")
def extractor(network: EfficientNetLite0) -> Extractor:
    return efficientnet_extractor(network)


@pytest.fixture(scope="module")
def patches() -> tuple[Tensor, Tensor]:
    """Return two disjoint sets of patches of photographs, (200, 3, 32, 32)."""
    rng = stream(0, "patches")
    pictures = [torch.tensor(picture).permute(2, 0, 1) for picture in load_sample_images().images]

    def cut() -> Iterator[Tensor]:
        for number in range(400):
            picture = pictures[number % 2]
            top, left = (int(torch.randint(side - 64, (1,), generator=rng)) for side in picture.shape[1:])
            yield picture[:, top : top + 64, left : left + 64]

    images = avg_pool2d(torch.stack([*cut()]).float(), 2).round().to(torch.uint8)
    return images[:200], images[200:]


def blurred(images: Tensor, by: int) -> Tensor:
    return interpolate(avg_pool2d(images.float(), by), images.shape[2:], mode="bilinear").round().to(torch.uint8)


def noisy(images: Tensor, deviation: float) -> Tensor:
    noise = torch.randn(images.shape, generator=stream(1, "noise"))
    return (images.float() + deviation * noise).clamp(0, 255).to(torch.uint8)


def repeated(images: Tensor, share: float) -> Tensor:
    """Return the images with a share of them replaced by copies of the others."""
    kept = images[: round(len(images) * (1 - share))]
    return torch.cat([kept, kept[torch.randint(len(kept), (len(images) - len(kept),), generator=stream(2, "copies"))]])


@pytest.mark.slow
def test_distances_grow_with_blur_noise_and_copies(extractor: Extractor, patches: tuple[Tensor, Tensor]) -> None:
    train, test = patches

    def features(pixels: Tensor) -> Tensor:
        return extract(extractor, pixels, device=CPU, batch_size=64).features

    reference = Reference.of(features(train))
    worse = {
        "blur": [test, blurred(test, 2), blurred(test, 8)],
        "noise": [test, noisy(test, 15), noisy(test, 60), uniform_noise(tuple(test.shape), stream(0, "noise"))],
        "copies": [test, repeated(test, 0.8), repeated(test, 0.95)],
    }
    for name, sets in worse.items():
        measured = [(fid(part, reference), mind(part, reference)) for part in map(features, sets)]
        for distances in zip(*measured, strict=True):
            assert list(distances) == sorted(distances), name
            assert distances[-1] > 1.3 * distances[0]
