"""Which modes a generator covers: the relativistic loss with R1 and R2 beside the non-saturating one without penalties.

`python -m benchmarks modes [PATH] [STEPS] [SEEDS]`. PATH holds MNIST's files, which are downloaded without it. Ring and
grid of Gaussians are those of `experiments/densities`; StackedMNIST (Metz et al. 2017, arXiv:1611.02163) has three
random digits as the channels of an image and so 1,000 modes, counted by a classifier of digits; here at 14 pixels.
"""

from dataclasses import replace

import torch
from torch import Generator, Tensor

from benchmarks.harness.game import relativistic
from benchmarks.harness.tables import Table
from benchmarks.harness.training_data import ROOT, digit_classifier, labelled_mnist
from experiments.densities.config import load_density_params
from gan_core.config import DcganConfig, TrainConfig
from gan_core.generation.generate import generate
from gan_core.generation.latents import z_bank
from gan_core.metrics.classifier import Classifier
from gan_core.runtime.device import Arithmetic, has_bf16
from gan_core.runtime.pixels import to_unit_range
from gan_core.runtime.randomness import stream
from gan_core.theory.densities import PLANES, coverage
from gan_core.theory.density_game import generated_points
from gan_core.theory.point_networks import build_players
from gan_core.training.loop import train
from gan_core.training.state import initial_state, state_of
from mlops.project.progress import Line, progress

SIZE = 14
STACKED, COUNTED = 100_000, 26_000
"""Images to train on, and generated ones whose modes are counted, as in the literature."""
NETWORK = DcganConfig("dcgan", 64, "normal", 32, 32, conditional=False)
STACKED_TRAIN = relativistic(gamma=1.0, rate=1e-3)
WAYS = ("non-saturating, no penalty", "relativistic, R1 and R2")
"""By which each density is learned, alike otherwise."""


def table(path: str | None = None, steps: str = "3000", seeds: str = "1") -> Table:
    """Train on each density in both ways, and count the modes that the averaged generators cover."""
    torch.set_num_threads(1)
    rows: list[tuple[str, ...]] = []
    for name, density in PLANES.items():
        for way in WAYS:
            counted = [points(name, way, seed) for seed in range(int(seeds))]
            rows.append((f"{name} of {len(density.means)}", way, *_side_by_side(counted)))
    (digits, labels), _ = labelled_mnist(path, size=SIZE)
    classifier = digit_classifier(digits, labels)
    images = stacked(digits, STACKED, stream(0, "stacked"))
    rows.append(("StackedMNIST of 1,000", "real images", *modes(classifier, images[:COUNTED])))
    with progress("StackedMNIST: steps", len(WAYS) * int(seeds) * int(steps)) as line:
        for number, way in enumerate(WAYS):
            counted = []
            for seed in range(int(seeds)):
                done = (number * int(seeds) + seed) * int(steps)
                counted.append(modes(classifier, trained_images(images, way, seed, int(steps), line, done)))
            rows.append(("StackedMNIST of 1,000", way, *_side_by_side(counted)))
    words = (
        f"By seed, after {int(steps):,} steps of batch 64 on images. A mode of ring and grid needs a quarter of its "
        f"share of points within three deviations, one of StackedMNIST a single one of {COUNTED:,} images, as in the "
        "literature. The last column is the share of points within three deviations of a mode, and for images the "
        "divergence KL of the modes' frequencies from equal ones, in nats."
    )
    return Table("modes covered", ("density", "loss", "modes", "good points, or KL"), tuple(rows), words)


def _side_by_side(counted: list[tuple[str, str]]) -> tuple[str, str]:
    return ", ".join(first for first, _ in counted), ", ".join(second for _, second in counted)


def by(way: str, config: TrainConfig) -> TrainConfig:
    """Return the configuration, which is of the relativistic way, for a way."""
    if way == WAYS[1]:
        return config
    return replace(config, loss="non_saturating", r1_gamma=0.0, r2_gamma=0.0)


def points(name: str, way: str, seed: int) -> tuple[str, str]:
    """Return the modes and the share of good points of a training on a density in the plane."""
    game = getattr(load_density_params(ROOT / "experiments/densities/params.yaml"), name)
    config, density = by(way, replace(game.train, seed=seed)), PLANES[name]
    players = build_players(game.network, dimensions=density.dimensions, octaves=game.octaves, seed=seed)
    state = state_of(config, game.network, *players)
    for _ in train(state, density.sample(100_000, stream(seed, "points"))):
        pass
    covered = coverage(density, generated_points(state.ema_generator, game.network, 100_000, seed))
    return f"{covered.covered}", f"{covered.high_quality_share:.1%}"


def stacked(digits: Tensor, count: int, rng: Generator) -> Tensor:
    """Return images (count, 3, H, W) of three digits drawn with replacement."""
    return digits[torch.randint(len(digits), (count, 3), generator=rng), 0]


def modes(classifier: Classifier, images: Tensor) -> tuple[str, str]:
    """Return how many of 1,000 modes stacked images have, and KL(frequencies, equal ones) in nats."""
    digits = images.reshape(-1, 1, SIZE, SIZE)
    classes = torch.cat([classifier(to_unit_range(batch))[1].argmax(dim=1) for batch in digits.split(1000)])
    numbers = classes.view(-1, 3) @ torch.tensor([100, 10, 1])
    shares = torch.bincount(numbers, minlength=1000).double() / len(images)
    divergence = torch.special.xlogy(shares, 1000 * shares).sum().item()
    return f"{int((shares > 0).sum())}", f"{divergence:.2f}"


def trained_images(images: Tensor, way: str, seed: int, steps: int, line: Line, done: int) -> Tensor:
    """Return images of a generator after a training on stacked digits."""
    config = by(way, replace(STACKED_TRAIN, seed=seed, steps=steps))
    state = initial_state(config, NETWORK, images, Arithmetic(bf16=has_bf16(torch.device("cpu")), micro_batches=1))
    for report in train(state, images):
        line.update(done + report.step)
    return generate(state.ema_generator, z_bank(NETWORK, seed=seed, count=COUNTED))
