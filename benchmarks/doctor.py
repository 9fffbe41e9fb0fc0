"""Does the doctor find what was planted, and stay silent where all is well? Prints one table.

`python -m benchmarks.doctor [MNIST]` plays 25 games on digits that were spoiled in five ways, and 20 sound ones: on
digits with half the default steps, on the ring of `experiments/densities` and, with the default numbers, on MNIST,
whose files are in the folder MNIST (without it, more digits). About 12 minutes on two cores.
"""

import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import redirect_stdout
from dataclasses import dataclass, replace
from functools import cache
from io import StringIO
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from experiments.densities.config import load_density_params
from gan_core.config import TrainConfig
from gan_core.doctor import HEALTHY, Diagnosis, Doctor, non_finite
from gan_core.runtime.randomness import stream
from gan_core.theory.densities import PLANES
from gan_core.theory.point_networks import build_players
from gan_core.training.batches import Batches
from gan_core.training.instruments import Instruments
from gan_core.training.loop import NonFiniteLossError, train
from gan_core.training.state import TrainState, initial_state, state_of
from gan_core.training.steps import discriminator_step
from mlops.project import params
from mlops.project.params import DataConfig
from mlops.project.prepared_data import load_images
from mlops.project.progress import progress
from stages.fetch import fetch
from stages.prepare import prepare

ROOT = Path(__file__).parents[1]
PARAMS = params.load(ROOT / "params.yaml")
CERTAIN_AFTER = 1500
"""Steps of a discriminator alone after which it gives initial images less than 1e-5."""


@dataclass(frozen=True)
class TrainingRun:
    """A training: what was planted in it (or `healthy`), on which data, under which seed."""

    planted: str
    data: str
    seed: int
    steps: int
    mnist: str | None = None


@dataclass(frozen=True)
class Outcome:
    """What the doctor said of a game at its end and on the way, and his and the instruments' share of its time."""

    game: TrainingRun
    diagnosis: Diagnosis
    warnings: list[str]
    share: float


class OneImage(nn.Module):
    """A generator that does not see z."""

    def __init__(self, generator: nn.Module) -> None:
        super().__init__()
        self.generator = generator

    def forward(self, z: Tensor) -> Tensor:
        """Return the image of z = 0, once for each z."""
        image: Tensor = self.generator(torch.zeros_like(z))
        return image


def sound(config: TrainConfig, images: Tensor) -> tuple[TrainConfig, TrainState, Tensor]:
    """Change nothing."""
    return config, initial_state(config, PARAMS.network, images), images


def one_mode(config: TrainConfig, images: Tensor) -> tuple[TrainConfig, TrainState, Tensor]:
    """Force the generator onto one mode."""
    state = initial_state(config, PARAMS.network, images)
    return config, state_of(config, PARAMS.network, state.discriminator, OneImage(state.generator)), images


def few_images(config: TrainConfig, images: Tensor) -> tuple[TrainConfig, TrainState, Tensor]:
    """Give the discriminator 200 images."""
    return config, initial_state(config, PARAMS.network, images[:200]), images[:200]


def certain_discriminator(config: TrainConfig, images: Tensor) -> tuple[TrainConfig, TrainState, Tensor]:
    """Let the minimax loss meet a discriminator that was trained to certainty and stays ahead."""
    config = replace(
        config, loss="minimax", r1_gamma=0.0, r2_gamma=0.0, discriminator_steps=5, generator_learning_rate=1e-4
    )
    state = initial_state(config, PARAMS.network, images)
    batches = Batches(config, PARAMS.network, images)
    for step in range(CERTAIN_AFTER):
        discriminator_step(config, state, batches.discriminator(step, k=-1))
    return config, state, images


def wild_learning_rate(config: TrainConfig, images: Tensor) -> tuple[TrainConfig, TrainState, Tensor]:
    """Make both learning rates a thousand times too large."""
    config = replace(config, generator_learning_rate=1.0, discriminator_learning_rate=1.0)
    return config, initial_state(config, PARAMS.network, images), images


def standing_generator(config: TrainConfig, images: Tensor) -> tuple[TrainConfig, TrainState, Tensor]:
    """Take the generator's learning rate away."""
    state = initial_state(config, PARAMS.network, images)
    config = replace(config, generator_learning_rate=1e-30)  # 0 is refused; this moves no weight of float32
    return config, state, images


PLANTED: dict[str, tuple[Callable[[TrainConfig, Tensor], tuple[TrainConfig, TrainState, Tensor]], int]] = {
    "mode collapse": (one_mode, 1500),
    "discriminator overfitting": (few_images, 4000),
    "vanished generator gradient": (certain_discriminator, 1500),
    "divergence": (wild_learning_rate, 1500),
    "stalled": (standing_generator, 1500),
}
"""How each failure is planted, and the steps of the game."""


@cache
def real_images(data: str, path: str | None) -> tuple[Tensor, Tensor]:
    """Return training and validation images as the pipeline prepares them."""
    config = replace(PARAMS.prepare, image_size=8 if data == "digits" else 28)
    with TemporaryDirectory() as folder, redirect_stdout(StringIO()):
        raw, prepared = Path(folder, "raw"), Path(folder, "prepared")
        source = DataConfig(data, path)  # type: ignore[arg-type]  # one of two names
        fetch(raw, data=source)
        prepare(raw, prepared, data=source, prepare=config)
        return torch.tensor(load_images(prepared, "train")), torch.tensor(load_images(prepared, "validation"))


def ring(seed: int) -> tuple[TrainConfig, TrainState, Tensor, Tensor]:
    """Return the game on a ring of 8 Gaussians, with points of its density to train on and others to watch by."""
    game = load_density_params(ROOT / "experiments/densities/params.yaml").ring
    config, density = replace(game.train, seed=seed, report_every=PARAMS.train.report_every), PLANES["ring"]
    players = build_players(game.network, dimensions=density.dimensions, octaves=game.octaves, seed=seed)
    points, unseen = (density.sample(100_000, stream(seed, purpose)) for purpose in ("points", "unseen points"))
    return config, state_of(config, game.network, *players), points, unseen


def play(game: TrainingRun) -> Outcome:
    """Play a game under the doctor's eyes."""
    torch.set_num_threads(1)
    config = replace(PARAMS.train, seed=game.seed, steps=game.steps)
    if game.data == "ring":
        config, state, images, unseen = ring(game.seed)
    else:
        images, unseen = real_images(game.data, game.mnist)
        prepared = PLANTED[game.planted][0] if game.planted in PLANTED else sound
        config, state, images = prepared(config, images)
    doctor, instruments = Doctor(PARAMS.doctor, config.steps), Instruments(config, state, images, unseen)
    warnings, looking, started = list[str](), 0.0, time.perf_counter()
    try:
        for played in train(config, state, images):
            if played.step % config.report_every == 0:
                before = time.perf_counter()
                found = doctor.read(played.read() | instruments.read(state))
                looking += time.perf_counter() - before
                if found is not None:
                    warnings.append(found.verdict)
        diagnosis = doctor.verdict()
    except NonFiniteLossError as error:
        diagnosis = non_finite(error.step)
    return Outcome(game, diagnosis, warnings, looking / (time.perf_counter() - started))


def games(mnist: str | None) -> list[TrainingRun]:
    """Return 25 spoiled games and 20 sound ones, the longest first."""
    healthy = [TrainingRun(HEALTHY, "digits", seed, 6000) for seed in range(6 if mnist else 12)]
    healthy += [TrainingRun(HEALTHY, "mnist", seed, 2000, mnist) for seed in range(6 if mnist else 0)]
    healthy += [TrainingRun(HEALTHY, "ring", seed, 3000) for seed in range(8)]
    spoiled = [TrainingRun(name, "digits", seed, steps) for name, (_, steps) in PLANTED.items() for seed in range(5)]
    return healthy + spoiled


def show(outcomes: list[Outcome]) -> None:
    """Print a line for each kind of game, and one for each that the doctor misjudged."""
    table = Table("planted", "data", "games", "found", "other warnings", "time of watching", title="the doctor")
    groups = dict[tuple[str, str], list[Outcome]]()
    for outcome in outcomes:
        groups.setdefault((outcome.game.planted, outcome.game.data), []).append(outcome)
    for (planted, data), group in groups.items():
        found = sum(outcome.diagnosis.verdict == planted for outcome in group)
        others = sorted({name for outcome in group for name in outcome.warnings if name != planted})
        share = f"{median(outcome.share for outcome in group):.1%}"
        table.add_row(planted, data, str(len(group)), str(found), ", ".join(others) or "none", share)
    console = Console(width=120, highlight=False)
    console.print(table)
    for outcome in outcomes:
        if outcome.diagnosis.verdict != outcome.game.planted or (outcome.game.planted == HEALTHY and outcome.warnings):
            console.print(f"misjudged: {outcome.game}, warnings {outcome.warnings}: {outcome.diagnosis.sentence}")
    for planted in PLANTED:
        said = next(outcome.diagnosis.sentence for outcome in outcomes if outcome.game.planted == planted)
        console.print(f"for example: {said}")


def main(mnist: str | None = None) -> None:
    """Play all games, two at a time, and show what the doctor said."""
    todo = games(mnist)
    with ProcessPoolExecutor(2) as pool, progress("games", len(todo)) as line:
        waiting = [pool.submit(play, game) for game in todo]
        for done, _ in enumerate(as_completed(waiting), start=1):
            line.update(done)
        show([future.result() for future in waiting])


if __name__ == "__main__":
    main(*sys.argv[1:])
