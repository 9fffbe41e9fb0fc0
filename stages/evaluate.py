"""The stage `evaluate`: scores of generated images with intervals, beside real ones and noise, with their passport."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from gan_core.config import ComputeConfig, ExecutionConfig
from gan_core.generation.generate import generate
from gan_core.generation.generator_file import load_generator
from gan_core.generation.latents import between, z_bank
from gan_core.metrics.neighbours import Neighbours, closeness
from gan_core.metrics.parzen import SAMPLES, VALIDATION, ParzenScore, parzen
from gan_core.runtime.distributed import all_gather, rank
from mlops.figures.grids import grid, png_bytes, side_by_side, stacked
from mlops.project.params import EvaluateConfig
from mlops.project.prepared_data import load_images
from mlops.project.progress import progress
from mlops.project.result_files import BANKS, COMPARISON, INTERPOLATION, NEIGHBOURS, PASSPORT, SCORES, save_json
from mlops.scoring.evaluation import Evaluation, suffix
from mlops.scoring.passport import passport_sha256
from mlops.scoring.scorer import Scorer

COLUMNS = 10
"""Images in a row of the pictures."""


def evaluate(
    prepared: Path,
    extractor: Path,
    generator: Path,
    replicas: Path,
    evaluation: Path,
    *,
    compute: ComputeConfig,
    execution: ExecutionConfig,
    evaluate: EvaluateConfig,
) -> None:
    """Write the scores of generated images beside those of as many real test images and of noise.

    All are measured against the training images. Generated images come from a fixed bank of z, are drawn again bit for
    bit, and are seen by the extractor once for all scores. A score bears its extractor's name: `fid_digits`; `fid`
    alone is that of Inception. Each is a mean with an interval over `evaluate.banks` sets of images, `fid_digits_low`
    to `fid_digits_high`: the luck of z. Where `replicate` has trained under other seeds, the mean over trainings and its
    interval stand apart, `fid_digits_replicas`, `fid_digits_retrained_low` and `fid_digits_retrained_high`.

    Args:
        prepared: what `prepare` wrote.
        extractor: what `extractor` wrote.
        generator: what `train` wrote.
        replicas: what `replicate` wrote.
        evaluation: new; a folder with `scores.json` (with the sha256 of their passport), `passport.json` (everything
            that the scores depend on), `banks.csv` (the scores of every training and bank), `comparison.png` (generated
            beside real images), `neighbours.png` (the generated images closest to a training image, and it) and
            `interpolation.png` (images between two z).
        compute: device and threads.
        execution: among how many processes the banks are shared; scores do not depend on it.
        evaluate: seed and number of the banks of z, number of images, how IS and KID average.

    Raises:
        UserError: the extractor's weights are not those that were made, its features are of other images, or the test
            images are too few to be scored.
    """
    scorer = Scorer(prepared, extractor, compute, evaluate)
    trainings = [generator, *sorted(replicas.glob("*.safetensors"), key=lambda path: int(path.stem))]
    table, pixels, neighbours = _measure(scorer, trainings)
    if rank() > 0:
        return
    papers = scorer.passport()
    table = table.rename(columns={name: f"{name}{suffix(papers)}" for name in table.columns[2:]})
    evidence = Evaluation("the generator", {}, papers, table)
    named: dict[str, Any] = _summary(evidence) | _beside(scorer, evidence)
    named |= {"images": scorer.count, "banks": evaluate.banks, "trainings": len(trainings)}
    named |= {"few_images": int(scorer.few), "passport": passport_sha256(papers)}
    if evaluate.parzen:
        named |= _parzen(prepared, generator, evaluate.seed, scorer.device)
    save_json(evaluation / SCORES, named)
    save_json(evaluation / PASSPORT, papers)
    table.to_csv(evaluation / BANKS, index=False, lineterminator="\n")
    _draw(evaluation, prepared, generator, pixels, neighbours, evaluate.seed)
    _print_table(named, evidence)


def _measure(scorer: Scorer, trainings: list[Path]) -> tuple[pd.DataFrame, Tensor, Neighbours]:
    """Return a row of scores for every training and bank of all ranks, and the images and neighbours of the first."""
    rows: list[dict[str, float]] = []
    firsts: list[tuple[Tensor, Neighbours]] = []
    with progress("evaluate: banks", len(trainings) * len(scorer.own_banks())) as line:
        for training, path in enumerate(trainings):
            for bank, found, pixels, neighbours in scorer.banks(path):
                rows.append({"training": training, "bank": bank} | found)
                if not firsts:
                    firsts = [(pixels, neighbours)]
                line.update(len(rows))
    return _of_all_ranks(pd.DataFrame(rows)), *firsts[0]


def _of_all_ranks(table: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of every rank in their order, each bank's once; numbers keep their bits."""
    rows = torch.cat(all_gather(torch.tensor(table.to_numpy(dtype=np.float64)))).numpy()
    every = pd.DataFrame(rows, columns=table.columns).astype({"training": int, "bank": int})
    places = ["training", "bank"]
    return every.sort_values(places).drop_duplicates(places, ignore_index=True)


def _summary(evidence: Evaluation) -> dict[str, float]:
    """Return the mean of every metric with its interval over banks and, where there are any, over trainings."""
    named: dict[str, float] = {}
    for column in evidence.banks.columns[2:]:
        metric = column.removesuffix(suffix(evidence.passport))
        found = evidence.interval(metric, "sampling")
        named |= {column: found.mean, f"{column}_low": found.low, f"{column}_high": found.high}
        if evidence.banks.training.nunique() > 1:
            found = evidence.interval(metric, "seeds")
            again = f"{column}_replicas"
            named |= {again: found.mean, f"{again}_low": found.low, f"{again}_high": found.high}
    return named


def _beside(scorer: Scorer, evidence: Evaluation) -> dict[str, float]:
    """Return the scores of real images, the FID of noise, and the generator's FID relative to both."""
    ending = suffix(evidence.passport)
    real, noise = scorer.real(), scorer.noise_fid()
    named = {f"{metric}{ending}_of_real": value for metric, value in real.items()}
    mean = float(np.mean(evidence.values("fid", "sampling")))
    ratios = {f"fid{ending}_to_real": mean / real["fid"], f"fid{ending}_to_noise": mean / noise}
    return named | ratios | {f"fid{ending}_of_noise": noise}


def _parzen(prepared: Path, generator: Path, seed: int, device: torch.device) -> dict[str, float]:
    """Return the log-likelihood of all test images by the protocol of the 2014 paper; the bank of z is that of FID."""
    network, config = load_generator(generator)
    samples = generate(network.to(device), z_bank(config, seed=seed, count=SAMPLES)).to(device)
    validation = torch.tensor(load_images(prepared, "validation")[:VALIDATION], device=device)
    if len(validation) < VALIDATION:
        print(
            f"warning: {len(validation)} validation images choose the window's width; the 2014 paper had {VALIDATION:,}"
        )
    test = torch.tensor(load_images(prepared, "test"), device=device)
    found: ParzenScore = parzen(samples=samples, validation=validation, test=test)
    print(f"log-likelihood under a Parzen window: {found.mean:.1f} ± {found.standard_error:.1f} nats")
    return {f"parzen_{name}": value for name, value in asdict(found).items()}


def _draw(evaluation: Path, prepared: Path, generator: Path, pixels: Tensor, neighbours: Neighbours, seed: int) -> None:
    """Write the pictures: generated beside real images, nearest neighbours, and what lies between two z."""
    panels = {"generated": pixels.numpy(), "real": load_images(prepared, "test")[: len(pixels)]}
    (evaluation / COMPARISON).write_bytes(png_bytes(side_by_side(panels)))
    closest = closeness(neighbours).argsort(stable=True)[:COLUMNS]
    nearest = neighbours.indices[closest, :5].T.flatten().numpy()
    rows = {
        "generated images closest to a training image": pixels[closest].numpy(),
        "the five nearest training images, nearest on top": load_images(prepared, "train")[nearest],
    }
    (evaluation / NEIGHBOURS).write_bytes(png_bytes(stacked(rows, len(closest))))
    network, config = load_generator(generator)
    ends = z_bank(config, seed=seed, count=16)
    ways = torch.cat([between(config, start, end, COLUMNS) for start, end in zip(ends[:8], ends[8:], strict=True)])
    (evaluation / INTERPOLATION).write_bytes(png_bytes(grid(generate(network, ways).numpy(), COLUMNS)))


def _print_table(named: dict[str, Any], evidence: Evaluation) -> None:
    title = f"scores against the training images, extractor {evidence.passport['extractor']['name']}"
    table = Table(title=title, title_justify="left")
    for name in ("score", "generated", "95 % over z", "95 % over seeds", "real"):
        table.add_column(name, justify="left" if name == "score" else "right")
    for column in evidence.banks.columns[2:]:
        again = f"{column}_replicas"
        seeds = f"{named[f'{again}_low']:.3f} to {named[f'{again}_high']:.3f}" if again in named else "not measured"
        interval_shown = f"{named[f'{column}_low']:.3f} to {named[f'{column}_high']:.3f}"
        table.add_row(column, f"{named[column]:.3f}", interval_shown, seeds, f"{named[f'{column}_of_real']:.3f}")
    Console(width=110).print(table)
