import hashlib

import numpy as np
import pytest
import torch
from sklearn.datasets import load_sample_images
from torch import Tensor
from torch.nn.functional import conv2d, interpolate, pad
from torchvision.transforms.functional import gaussian_blur  # type: ignore[import-untyped]

from gan_core.metrics import efficientnet
from gan_core.metrics.efficientnet import DIMENSION, SHA256, EfficientNetLite0, _Same, load_efficientnet
from gan_core.metrics.features import efficientnet_extractor, extract
from gan_core.metrics.scores import Reference, fid, mind, uniform_noise
from gan_core.runtime.randomness import stream
from tests.gan_core.examples import CPU, efficientnet_weights, random_pixels


@pytest.fixture(scope="module")
def network() -> EfficientNetLite0:
    return load_efficientnet(efficientnet_weights())


def test_the_weights_are_the_published_ones() -> None:
    assert hashlib.sha256(efficientnet_weights().read_bytes()).hexdigest() == SHA256


def same_padded(images: Tensor, weight: Tensor, stride: int) -> Tensor:
    """Return TensorFlow's convolution with padding "SAME"; groups follow from the weight's shape."""
    sides = [max((-(-side // stride) - 1) * stride + weight.shape[2] - side, 0) for side in images.shape[2:]]
    ways = [part for side in reversed(sides) for part in (side // 2, side - side // 2)]
    return conv2d(pad(images, ways), weight, stride=stride, groups=images.shape[1] // weight.shape[1])


@pytest.mark.parametrize("kernel", [3, 5])
@pytest.mark.parametrize("side", [8, 9])
def test_images_of_any_side_are_padded_as_by_tensorflow(side: int, kernel: int) -> None:
    images, weight = (torch.randn(1, 2, size, size, generator=stream(0, "padded")) for size in (side, kernel))
    assert torch.equal(conv2d(_Same(kernel // 2)(images), weight, stride=2), same_padded(images, weight, 2))


def test_the_network_is_that_of_the_weights_names(network: EfficientNetLite0) -> None:
    """The same in float64 by the published names: by order alone, two tensors of one shape could be swapped."""
    published = torch.load(efficientnet_weights(), weights_only=True)
    tensors: dict[str, Tensor] = {name: tensor.double() for name, tensor in published.items()}

    def layer(images: Tensor, convolution: str, norm: str, stride: int = 1, last: bool = False) -> Tensor:
        made = same_padded(images, tensors[f"{convolution}.weight"], stride)
        mean, variance, weight, bias = (
            tensors[f"{norm}.{name}"][:, None, None] for name in ("running_mean", "running_var", "weight", "bias")
        )
        normed = (made - mean) / (variance + 1e-3).sqrt() * weight + bias
        return normed if last else normed.clamp(0, 6)

    pixels = random_pixels(2, size=16, channels=3)
    images = interpolate(pixels.double(), (efficientnet.SIDE, efficientnet.SIDE), mode="bilinear")
    images = layer((images - 127) / 128, "_conv_stem", "_bn0", 2)
    for index in range(16):
        block, before = f"_blocks.{index}.", images
        if index > 0:
            images = layer(images, f"{block}_expand_conv", f"{block}_bn0")
        images = layer(images, f"{block}_depthwise_conv", f"{block}_bn1", 2 if index in (1, 3, 5, 11) else 1)
        images = layer(images, f"{block}_project_conv", f"{block}_bn2", last=True)
        images = images + before if images.shape == before.shape else images
    features = layer(images, "_conv_head", "_bn1").mean(dim=(2, 3))
    logits = features @ tensors["_fc.weight"].T + tensors["_fc.bias"]
    ours = network(pixels)
    assert ours[0].shape == (2, DIMENSION)
    assert torch.allclose(ours[0].double(), features, atol=1e-4)
    assert torch.allclose(ours[1].double(), logits, atol=1e-3)


def test_it_names_what_photographs_show(network: EfficientNetLite0, monkeypatch: pytest.MonkeyPatch) -> None:
    """At the size that it was trained on: a palace, and a flower, of which ImageNet has the daisy."""
    monkeypatch.setattr(efficientnet, "SIDE", 224)
    for photograph, name in zip(load_sample_images().images, (698, 985), strict=True):
        square = torch.tensor(photograph[:, 106:533]).permute(2, 0, 1)[None].float()
        pixels = interpolate(square, (224, 224), mode="bilinear", antialias=True).round().to(torch.uint8)
        assert network(pixels)[1].argmax().item() == name


def patches() -> Tensor:
    """Return 520 squares of 32 pixels of two photographs, in random order."""
    photographs = torch.tensor(np.stack(load_sample_images().images)).permute(0, 3, 1, 2)[:, :, :416]
    squares = photographs.unfold(2, 32, 32).unfold(3, 32, 32).permute(0, 2, 3, 1, 4, 5).reshape(-1, 3, 32, 32)
    return squares[torch.randperm(len(squares), generator=stream(0, "test patches"))]


def test_distances_order_real_blurred_and_noisy_images_and_duplicates() -> None:
    extractor, squares = efficientnet_extractor(efficientnet_weights(), CPU), patches()

    def features(pixels: Tensor) -> Tensor:
        return extract(extractor, pixels.to(torch.uint8), device=CPU, batch_size=64).features

    real, reference = squares[:100], Reference.of(features(squares[100:200]))
    grain = torch.randn(real.shape, generator=stream(0, "test noise"))
    noisy = [(real + deviation * grain).round().clamp(0, 255) for deviation in (10, 30)]
    blurred = [gaussian_blur(real, [13, 13], [deviation]) for deviation in (1, 2)]
    repeated = [real[torch.arange(100) % different] for different in (50, 10)]
    noise = torch.cat([*uniform_noise(tuple(real.shape), stream(0, "noise"), 100)])
    best, worst = features(real), features(noise)
    for worse in ([features(pixels) for pixels in pair] for pair in (noisy, blurred, repeated)):
        for measure in (fid, mind):
            distances = [measure(part, reference) for part in (best, *worse, worst)]
            assert distances == sorted(distances)
            assert distances[0] > 0
