"""How often the doctor recognises a planted failure, and warns of a healthy training. Prints one table.

`python -m benchmarks.doctor [MNIST]` runs 35 trainings on digits with one of seven failures planted, and 20 healthy
ones: on digits with half the default steps, on the ring of `experiments/densities` and, with the default numbers, on
MNIST, whose files are in the folder MNIST (without it, more digits). About 12 minutes on two cores.
"""

import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from statistics import median

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from benchmarks.harness.training_data import PARAMS, real_images, ring
from gan_core.augmentation.augment import alone, augmented, draws_of
from gan_core.config import AdaConfig, Schedule, TrainConfig
from gan_core.doctor import HEALTHY, Diagnosis, Doctor, Readings, non_finite
from gan_core.generation.generate import generate
from gan_core.generation.latents import z_bank
from gan_core.metrics.features import efficientnet_extractor, extract
from gan_core.metrics.pictures import leaked_shares, spacing, spectral_distance
from gan_core.runtime.randomness import stream
from gan_core.runtime.sampling import sample
from gan_core.training.batches import Batches
from gan_core.training.instruments import Instruments
from gan_core.training.loop import NonFiniteLossError, train
from gan_core.training.state import TrainState, initial_state, state_of
from gan_core.training.steps import discriminator_step
from mlops.project.progress import progress
from stages.diagnose import transformed
from stages.extractor import EFFICIENTNET

CPU = torch.device("cpu")
TURNED = AdaConfig("ada", probability=1.0, target=0.6, geometry=1.0, color=0.0, cutout=0.0)
LOOKED_AT = 400
"""Generated and real images that are looked at after a training with augmentation."""
CERTAIN_AFTER = 1500
"""Steps of a discriminator alone after which it gives initial images less than 1e-5."""


@dataclass(frozen=True)
class Case:
    """A training: the planted failure (or `healthy`), the data, the seed and the steps."""

    planted: str
    data: str
    seed: int
    steps: int
    mnist: str | None = None


@dataclass(frozen=True)
class Outcome:
    """The doctor's verdict at the end of a training, its warnings on the way, and the share of time of reading."""

    case: Case
    diagnosis: Diagnosis
    warnings: list[str]
    share: float


class OneImage(nn.Module):
    """A generator whose output does not depend on z."""

    def __init__(self, generator: nn.Module) -> None:
        super().__init__()
        self.generator = generator

    def forward(self, z: Tensor) -> Tensor:
        """Return the image of z = 0, once for each z."""
        image: Tensor = self.generator(torch.zeros_like(z))
        return image


class Marked(nn.Module):
    """A generator whose images all have a white corner, which no digit has."""

    def __init__(self, generator: nn.Module) -> None:
        super().__init__()
        self.generator = generator

    def forward(self, z: Tensor) -> Tensor:
        """Return the images of z, with the corner."""
        images: Tensor = self.generator(z).clone()
        images[:, :, :2, :2] = 1
        return images


class Turned(nn.Module):
    """A generator whose images are transformed as `TURNED` does, by z instead of new draws."""

    def __init__(self, generator: nn.Module) -> None:
        super().__init__()
        self.generator = generator

    def forward(self, z: Tensor) -> Tensor:
        """Return the images of z, turned; Phi(z) is uniform."""
        draws = torch.special.ndtr(z[:, : draws_of(TURNED)]).clamp(max=1 - 1e-6)
        return augmented(self.generator(z), draws, TURNED, torch.tensor(1.0))


def healthy(config: TrainConfig, images: Tensor) -> tuple[TrainState, Tensor]:
    """Change nothing."""
    return initial_state(config, PARAMS.network, images), images


def one_mode(config: TrainConfig, images: Tensor) -> tuple[TrainState, Tensor]:
    """Force the generator onto one mode."""
    state = initial_state(config, PARAMS.network, images)
    return state_of(config, PARAMS.network, state.discriminator, OneImage(state.generator)), images


def marked(config: TrainConfig, images: Tensor) -> tuple[TrainState, Tensor]:
    """Mark every generated image, and give the discriminator a small penalty."""
    config = replace(config, r1_gamma=0.03, r2_gamma=0.03)
    state = initial_state(config, PARAMS.network, images)
    return state_of(config, PARAMS.network, state.discriminator, Marked(state.generator)), images


def few_images(config: TrainConfig, images: Tensor) -> tuple[TrainState, Tensor]:
    """Give the discriminator 200 images."""
    few = images[sample(len(images), 200, stream(config.seed, "few images"))]
    return initial_state(config, PARAMS.network, few), few


def certain_discriminator(config: TrainConfig, images: Tensor) -> tuple[TrainState, Tensor]:
    """Combine the minimax loss with a discriminator that was trained to certainty and keeps its lead."""
    slow = Schedule(1e-4, 0.0, "linear", None)
    config = replace(
        config, loss="minimax", r1_gamma=0.0, r2_gamma=0.0, discriminator_steps=5, generator_learning_rate=slow
    )
    state = initial_state(config, PARAMS.network, images)
    batches = Batches(state, images)
    for step in range(CERTAIN_AFTER):
        discriminator_step(state, batches.discriminator(step, k=-1))
    return state, images


def wild_learning_rate(config: TrainConfig, images: Tensor) -> tuple[TrainState, Tensor]:
    """Make both learning rates a thousand times too large."""
    wild = Schedule(1.0, 0.0, "linear", None)
    config = replace(config, generator_learning_rate=wild, discriminator_learning_rate=wild)
    return initial_state(config, PARAMS.network, images), images


def frozen_generator(config: TrainConfig, images: Tensor) -> tuple[TrainState, Tensor]:
    """Reduce the generator's learning rate to almost 0."""
    config = replace(config, generator_learning_rate=1e-30)  # 0 is refused; this changes no weight in float32
    return initial_state(config, PARAMS.network, images), images


def turned(config: TrainConfig, images: Tensor) -> tuple[TrainState, Tensor]:
    """Turn every generated image, and all that the discriminator is shown, so that it cannot tell."""
    state = initial_state(config, PARAMS.network, images)
    generator = Turned(state.generator)
    return state_of(config, PARAMS.network, state.discriminator, generator, augmentation=TURNED), images


PLANTED: dict[str, tuple[Callable[[TrainConfig, Tensor], tuple[TrainState, Tensor]], int]] = {
    "mode collapse": (one_mode, 1500),
    "the discriminator has won": (marked, 1500),
    "discriminator overfitting": (few_images, 4000),
    "vanished generator gradient": (certain_discriminator, 1500),
    "divergence": (wild_learning_rate, 1500),
    "stalled": (frozen_generator, 1500),
    "leaked augmentation": (turned, 800),
}
"""How each failure is planted, and the steps of the training."""


def run(case: Case) -> Outcome:
    """Train while the doctor reads the instruments."""
    torch.set_num_threads(1)
    config = replace(PARAMS.train, seed=case.seed, steps=case.steps)
    if case.data == "ring":
        state, images, unseen = ring(case.seed)
    else:
        images, unseen = real_images(case.data, case.mnist)
        plant = PLANTED[case.planted][0] if case.planted in PLANTED else healthy
        state, images = plant(config, images)
    doctor, instruments = Doctor(PARAMS.doctor, state.config.steps), Instruments(state, images, unseen)
    warnings, reading, started = list[str](), 0.0, time.perf_counter()
    try:
        for report in train(state, images):
            if report.step % state.config.report_every == 0:
                before = time.perf_counter()
                seen = {"images_seen": float(report.step * state.config.batch_size * state.config.discriminator_steps)}
                warning = doctor.read(report.read() | seen | instruments.read(state))
                reading += time.perf_counter() - before
                if warning is not None:
                    warnings.append(warning.verdict)
        diagnosis = doctor.verdict(pictures(state, images) if alone(state.augmentation) else None)
    except NonFiniteLossError as error:
        diagnosis = non_finite(error.step)
    return Outcome(case, diagnosis, warnings, reading / (time.perf_counter() - started))


def pictures(state: TrainState, images: Tensor) -> Readings:
    """Return what only the finished generator's pictures show, by EfficientNet's features."""
    package, file = EFFICIENTNET
    spec = find_spec(package)
    assert spec is not None, "requirements.txt has it"
    extractor = efficientnet_extractor(Path(*(spec.submodule_search_locations or ())) / file, CPU)
    real = images[sample(len(images), LOOKED_AT, stream(state.config.seed, "looked at"))]
    generated = generate(state.ema_generator, z_bank(state.network, seed=state.config.seed, count=len(real)))
    traces = transformed(real, state.augmentation)
    ours, theirs, *others = (
        extract(extractor, part, device=CPU, batch_size=64).features for part in (generated, real, *traces.values())
    )
    leaked = leaked_shares(ours, theirs, dict(zip(traces, others, strict=True)))
    distance = spectral_distance(generated, real)
    return {"spacing": spacing(ours, theirs), "spectral_distance": distance, "leaked": max(leaked.values())}


def cases(mnist: str | None) -> list[Case]:
    """Return 35 trainings with a planted failure and 20 healthy ones, the longest first."""
    sound = [Case(HEALTHY, "digits", seed, 6000) for seed in range(6 if mnist else 12)]
    sound += [Case(HEALTHY, "mnist", seed, 2000, mnist) for seed in range(6 if mnist else 0)]
    sound += [Case(HEALTHY, "ring", seed, 3000) for seed in range(8)]
    planted = [Case(name, "digits", seed, steps) for name, (_, steps) in PLANTED.items() for seed in range(5)]
    return sound + planted


def show(outcomes: list[Outcome]) -> None:
    """Print a row for each kind of training, and a line for each that the doctor misjudged."""
    columns = ("planted", "data", "trainings", "recognised", "other warnings", "time of reading")
    table = Table(*columns, title="the doctor")
    groups = dict[tuple[str, str], list[Outcome]]()
    for outcome in outcomes:
        groups.setdefault((outcome.case.planted, outcome.case.data), []).append(outcome)
    for (planted, data), group in groups.items():
        recognised = sum(outcome.diagnosis.verdict == planted for outcome in group)
        others = sorted({name for outcome in group for name in outcome.warnings if name != planted})
        share = f"{median(outcome.share for outcome in group):.1%}"
        table.add_row(planted, data, str(len(group)), str(recognised), ", ".join(others) or "none", share)
    console = Console(width=120, highlight=False)
    console.print(table)
    for outcome in outcomes:
        if outcome.diagnosis.verdict != outcome.case.planted or (outcome.case.planted == HEALTHY and outcome.warnings):
            console.print(f"misjudged: {outcome.case}, warnings {outcome.warnings}: {outcome.diagnosis.sentence}")
    for planted in PLANTED:
        example = next(outcome.diagnosis.sentence for outcome in outcomes if outcome.case.planted == planted)
        console.print(f"for example: {example}")


def main(mnist: str | None = None) -> None:
    """Run all cases, two at a time, and print the doctor's verdicts."""
    todo = cases(mnist)
    with ProcessPoolExecutor(2) as pool, progress("trainings", len(todo)) as line:
        waiting = [pool.submit(run, case) for case in todo]
        for done, _ in enumerate(as_completed(waiting), start=1):
            line.update(done)
        show([future.result() for future in waiting])


if __name__ == "__main__":
    main(*sys.argv[1:])
