"""The stage `evaluate`: scores of generated images with intervals, beside real ones and noise, with their passport."""

from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from gan_core.config import ComputeConfig, ExecutionConfig, TrainConfig
from gan_core.generation import latent_space
from gan_core.generation.generate import generate
from gan_core.generation.generator_file import LoadedGenerator, load_generator
from gan_core.generation.labels import class_rows
from gan_core.generation.latents import draw_z
from gan_core.metrics.neighbours import closeness
from gan_core.metrics.utility.gain import WAYS
from gan_core.metrics.utility.training import ROUNDS, STEPS, Labelled, accuracies, new_classifiers, train_on_each
from gan_core.runtime.distributed import all_gather, rank
from gan_core.runtime.randomness import stream
from mlops.figures.animations import animation
from mlops.figures.grids import grid, png_bytes, side_by_side, stacked
from mlops.project.params import EvaluateConfig
from mlops.project.prepared_data import Split, load_images, load_labels
from mlops.project.progress import progress
from mlops.project.result_files import CLASSES, COMPARISON, INTERPOLATION, NEIGHBOURS, TRUNCATION, WALK
from mlops.safety.new_outputs import Output
from mlops.scoring.class_table import class_table
from mlops.scoring.comparison import direction, shown_interval
from mlops.scoring.evaluation import Evaluation, summarise
from mlops.scoring.evaluation_files import write_evaluation
from mlops.scoring.samples import sampled
from mlops.scoring.scorer import Bank, Scorer
from mlops.scoring.utility import Utility, write_utility

COLUMNS, SHOWN = 10, 100
"""Images in a row of the pictures, and at most in a panel of `comparison.png`."""
WALK_COLUMNS, WALK_SECONDS = 4, 0.08
"""Of `walk.webp`: images in a row, and how long a frame is shown."""
LONGEST_NAME = 24
"""Of a score, for a table of 80 columns."""


def evaluate(
    prepared: Path,
    extractor: Path,
    generator: Path,
    replicas: Path,
    evaluation: Output,
    *,
    compute: ComputeConfig,
    execution: ExecutionConfig,
    train: TrainConfig,
    evaluate: EvaluateConfig,
) -> None:
    """Write the scores of generated images beside those of as many real test images, superimposed ones and noise.

    All are measured against the training images. Generated images come from fixed banks of z, the same bit for bit
    each time, and their features are extracted once for all scores. A score bears its extractor's name: `fid_digits`;
    `fid` alone is that of Inception. Each is a mean with a 95 % interval (`low`, `high`) over `evaluate.banks` sets of
    images: the sampling noise. If `replicate` has trained under other seeds, `seeds` has the same over trainings.

    A conditional generator is asked for the classes of the scored test images, so FID compares like with like; then
    `classes.csv` has scores by class and, with `evaluate.utility_seeds`, `utility.json` whether it helps a classifier.

    The folder `evaluation` is new and gets `scores.json`, `passport.json` (all that the scores depend on), `banks.csv`
    (the scores of every training and bank), `comparison.png` (generated beside real images), `neighbours.png` (the
    generated images closest to a training image, and it), and of the latent space `interpolation.png`, `truncation.png`
    and `walk.webp`. Processes share the banks, which changes no score. Features of others, or too few, are a UserError.
    """
    scorer = Scorer(prepared, extractor, compute, evaluate)
    trainings = [generator, *sorted(replicas.glob("*.safetensors"), key=lambda path: int(path.stem))]
    banks, first = _measure(scorer, trainings)
    if rank() > 0:
        return
    measured = Evaluation(
        "the generator",
        summarise(banks, scorer.real(), scorer.references()),
        scorer.passport(),
        banks,
        images=scorer.count,
        few_images=scorer.few,
        parzen=asdict(scorer.parzen(generator)) if evaluate.parzen else None,
        skill=scorer.skill(),
    )
    write_evaluation(measured, evaluation)
    network = load_generator(generator)
    _write_classes(evaluation, scorer, first, network)
    _draw_beside_real(evaluation, scorer, first, network)
    _draw_latent_space(evaluation, network, evaluate.seed)
    _print_table(measured)
    if evaluate.utility_seeds and network.classes:
        _write_utility(evaluation, _measure_utility(scorer, network, evaluate, mirror=train.mirror))


def _measure(scorer: Scorer, trainings: list[Path]) -> tuple[pd.DataFrame, Bank]:
    """Return a row of scores for every training and bank of all ranks, and the first bank of this one."""
    rows: list[dict[str, float]] = []
    firsts: list[Bank] = []
    with progress("evaluate: banks", len(trainings) * len(scorer.own_banks())) as line:
        for training, path in enumerate(trainings):
            for bank in scorer.banks(path):
                rows.append({"training": training, "bank": bank.number} | bank.metrics)
                firsts = firsts or [bank]
                line.update(len(rows))
    return _of_all_ranks(pd.DataFrame(rows)), firsts[0]


def _of_all_ranks(table: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of every rank in their order, each bank's once; numbers keep their bits."""
    rows = torch.cat(all_gather(torch.tensor(table.to_numpy(dtype=np.float64)))).numpy()
    every = pd.DataFrame(rows, columns=table.columns).astype({"training": int, "bank": int})
    places = ["training", "bank"]
    return every.sort_values(places).drop_duplicates(places, ignore_index=True)


def _measure_utility(scorer: Scorer, generator: LoadedGenerator, config: EvaluateConfig, *, mirror: bool) -> Utility:
    """Return what classifiers of each seed learn from the training images and from new images of the generator.

    Shifted images are mirrored, too, if `train.mirror` says that mirror images are as real.
    """
    real, test = (_labelled(scorer.prepared, split) for split in ("train", "test"))
    test = Labelled(test.images[scorer.scored], test.labels[scorer.scored])
    network = generator.network.to(scorer.device)

    def generated(labels: Tensor, rng: torch.Generator) -> Tensor:
        return generate(network, draw_z(generator.config, len(labels), rng), labels)

    classifiers = new_classifiers(real.images, len(generator.classes), scorer.device)
    measured: dict[str, list[float]] = {way: [] for way in WAYS}
    with progress("evaluate: rounds of classifiers", config.utility_seeds * ROUNDS) as line:
        for number in range(config.utility_seeds):
            for done in train_on_each(classifiers, real, generated, seed=config.seed + number, mirror=mirror):
                line.update(number * ROUNDS + done)
            for way, share in accuracies(classifiers, test).items():
                measured[way].append(share)
    return Utility(measured, mirror, len(real.labels), len(test.labels), STEPS)


def _labelled(prepared: Path, split: Split) -> Labelled:
    return Labelled(torch.from_numpy(load_images(prepared, split)), torch.tensor(load_labels(prepared, split)))


def _write_classes(evaluation: Path, scorer: Scorer, first: Bank, generator: LoadedGenerator) -> None:
    if generator.classes:
        table = class_table(scorer, first.features, generator.classes)
        table.to_csv(evaluation / CLASSES, index=False, lineterminator="\n", float_format="%.6g")


def _draw_beside_real(evaluation: Path, scorer: Scorer, first: Bank, generator: LoadedGenerator) -> None:
    """Write the first images beside real ones, of a conditional generator by class, and their nearest neighbours."""
    prepared, neighbours = scorer.prepared, first.neighbours
    count = min(SHOWN, scorer.count // COLUMNS * COLUMNS or scorer.count)  # whole rows
    shown = torch.arange(count)
    real = sampled(prepared, "test", count, seed=scorer.config.seed, purpose="shown test images")
    names = list[str]()
    if generator.classes and scorer.scored_labels is not None:
        rows = class_rows(scorer.scored_labels, COLUMNS, stream(scorer.config.seed, "shown by class"))
        shown, real = (rows, scorer.scored[rows]) if len(rows) else (shown, real)
        names = [generator.classes[label] for label in scorer.scored_labels[rows[:SHOWN:COLUMNS]].tolist()]
    panels = {"generated": scorer.images(generator, shown).numpy(), "real": load_images(prepared, "test")[real.numpy()]}
    (evaluation / COMPARISON).write_bytes(png_bytes(side_by_side(panels, names)))
    closest = closeness(neighbours).argsort(stable=True)[:COLUMNS]
    nearest = neighbours.indices[closest, :5].T.flatten().numpy()
    closeups = {
        "generated images closest to a training image": scorer.images(generator, closest).numpy(),
        "the five nearest training images, nearest on top": load_images(prepared, "train")[nearest],
    }
    (evaluation / NEIGHBOURS).write_bytes(png_bytes(stacked(closeups, len(closest))))


def _draw_latent_space(evaluation: Path, generator: LoadedGenerator, seed: int) -> None:
    """Write pictures of what lies between latents."""
    network, config, classes = generator
    ways = {INTERPOLATION: latent_space.interpolations, TRUNCATION: latent_space.truncations}
    for name, images in ways.items():
        shown = images(network, config, seed, len(classes)).numpy()
        (evaluation / name).write_bytes(png_bytes(grid(shown, latent_space.COLUMNS)))
    frames = latent_space.walk(network, config, seed, len(classes)).numpy()
    (evaluation / WALK).write_bytes(animation([grid(pixels, WALK_COLUMNS) for pixels in frames], WALK_SECONDS))


def _print_table(measured: Evaluation) -> None:
    """Print every score with its intervals, in 80 columns."""
    extractor = measured.passport["extractor"]["name"]
    table = Table(title=f"scores by extractor {extractor}, with 95 % intervals", title_justify="left")
    table.add_column("score")
    for column in ("generated", "real", "better"):
        table.add_column(column, justify="left" if column == "better" else "right", no_wrap=True)
    names = measured.row_names(LONGEST_NAME)
    for metric, score in measured.scores.items():
        better = direction(metric, score)
        table.add_row(names[metric], shown_interval(score.over_banks), f"{score.real:.3g}", better)
        if score.over_seeds:
            table.add_row("  over seeds", shown_interval(score.over_seeds))
    table.add_row("fid, trivial", f"{measured.scores['fid'].trivial:.3g}")
    table.add_row("fid, noise", f"{measured.scores['fid'].noise:.3g}")
    if skill := measured.skill:
        mark = f"weak, below {skill.fewest:.3g}" if skill.weak else ""
        table.add_row("accuracy", mark, f"{skill.accuracy:.3g}", "higher")
    Console(highlight=False).print(table)
    if parzen := measured.parzen:
        print(f"log-likelihood under a Parzen window: {parzen['mean']:.1f} ± {parzen['standard_error']:.1f} nats")


def _write_utility(evaluation: Path, utility: Utility) -> None:
    """Write and print what classifiers learned from each kind of images, and whether the generator helps."""
    write_utility(utility, evaluation)
    table = Table(title="a classifier, with 95 % intervals over seeds", title_justify="left")
    for column in ("trained on", "accuracy, %", "more than shifted, points"):
        table.add_column(column)
    for way, accuracy, _, more in utility.rows():
        table.add_row(way, accuracy, more)
    console = Console(highlight=False)
    console.print(table)
    console.print(f"{utility.sentence()}.")
