"""The gate's false positive rate and statistical power. Prints two tables and draws a curve.

`python -m benchmarks.gate` reads the outputs of the pipeline (`dvc repro` first). Simulated models are the generator
itself, on new z; a worse one is the same with as much noise on its pixels as makes its FID so much larger. If the
pipeline ran with `replicate.seeds`, real trainings that differ in their seed alone are compared too. About 3 minutes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import yaml
from matplotlib.figure import Figure
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from torch import Tensor

from gan_core.generation.generate import generate
from gan_core.generation.generator_file import load_generator
from gan_core.generation.latents import z_bank
from gan_core.metrics.intervals import p_value
from gan_core.metrics.scores import fid
from gan_core.runtime.randomness import stream
from mlops.figures.curves import BLUE, GREEN, GREY, ORANGE, png_of
from mlops.project import params
from mlops.project.progress import progress
from mlops.scoring.evaluation_files import read_evaluation
from mlops.scoring.scorer import Scorer

PAIRS = 200
IMPROVEMENTS = (0.0, 0.03, 0.05, 0.1, 0.15, 0.2)
"""By how much the challenger's expected FID is below the champion's."""
BUDGETS = (10, 25, 50, 100)
"""Banks of z of each model."""
POOL = 200_000
"""Images that stand for all that a generator can make: each bank is drawn from their features, with replacement."""
CALIBRATION = 40_000
"""Those of these images that determine the noise."""
GROUP = 5
"""Trainings on each side of a comparison of ways to train."""
PICTURE = Path("docs/pictures/power.png")
Array = NDArray[np.float64]


@dataclass(frozen=True)
class Laboratory:
    """A generator's images, and the FID of banks of them."""

    scorer: Scorer
    pixels: Tensor

    def features(self, noise: float, count: int) -> Tensor:
        """Return features of the first images with normal noise of a standard deviation, in grey levels, on them."""
        pixels = self.pixels[:count]
        drawn = torch.randn(pixels.shape, generator=stream(0, "benchmark noise"))
        spoiled = (pixels + noise * drawn).round().clamp(0, 255).to(torch.uint8)
        return self.scorer.features(spoiled).features

    def fids(self, features: Tensor, models: int, banks: int, purpose: str) -> Array:
        """Return the FID of each bank of each model, (models, banks)."""
        count, rng = self.scorer.count, stream(0, purpose)
        drawn = (torch.randint(len(features), (count,), generator=rng) for _ in range(models * banks))
        scores = [fid(features[index], self.scorer.reference) for index in drawn]
        return np.array(scores).reshape(models, banks)

    def noise_for(self, ratio: float, clean: float) -> float:
        """Return the noise that makes the expected FID `ratio` times `clean`, by bisection on 1,000 banks."""
        low, high = 0.0, 64.0
        for _ in range(12):
            middle = (low + high) / 2
            mean = self.fids(self.features(middle, CALIBRATION), 1, 1000, "calibration").mean()
            low, high = (middle, high) if mean < ratio * clean else (low, middle)
        return (low + high) / 2


def promoted(champions: Array, challengers: Array, rate: float) -> float:
    """Return the share of pairs, row by row, in which the challenger would be promoted."""
    pairs = zip(champions.tolist(), challengers.tolist(), strict=True)
    return float(np.mean([p_value(*pair, lower_is_better=True) < rate for pair in pairs]))


def power(
    laboratory: Laboratory, improvements: Sequence[float], budgets: Sequence[int], rate: float
) -> dict[float, dict[int, float]]:
    """Return the share of `PAIRS` challengers that are promoted, by improvement and by banks of each model."""
    pool = len(laboratory.pixels)
    mean = laboratory.fids(laboratory.features(0.0, CALIBRATION), 1, 1000, "calibration").mean()
    clean = laboratory.features(0.0, pool)
    challengers = laboratory.fids(clean, PAIRS, max(budgets), "challengers")
    shares: dict[float, dict[int, float]] = {}
    with progress("improvements", len(improvements)) as line:
        for done, improvement in enumerate(improvements, start=1):
            noise = laboratory.noise_for(1 / (1 - improvement), mean) if improvement else 0.0
            features = laboratory.features(noise, pool)
            champions = laboratory.fids(features, PAIRS, max(budgets), f"champions {improvement}")
            actual = 1 - challengers.mean() / champions.mean()
            shares[improvement] = {
                banks: promoted(champions[:, :banks], challengers[:, :banks], rate) for banks in budgets
            }
            line.update(done, f"an improvement of {actual:.1%} was planted")
    return shares


def draw(power: dict[float, dict[int, float]], count: int, rate: float) -> bytes:
    """Return the curves of power as the bytes of a PNG file."""
    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.subplots()
    for banks, colour in zip(BUDGETS, (GREY, GREEN, ORANGE, BLUE), strict=True):
        label = f"{banks} banks of {count} = {banks * count:,} images"
        shares = [100 * by_banks[banks] for by_banks in power.values()]
        axes.plot([100 * improvement for improvement in power], shares, "o-", color=colour, label=label)
    axes.axhline(90, color=GREY, linestyle="--", linewidth=1)
    axes.axhline(100 * rate, color=GREY, linestyle=":", linewidth=1)
    axes.set(xlabel="improvement of FID, %", ylabel="challengers promoted, %", ylim=(0, 102))
    axes.set_title("How often the gate promotes an improvement; at 0 it is a false positive", loc="left")
    axes.legend(loc="center right", bbox_to_anchor=(1, 0.3), frameon=False)
    return png_of(figure)


def by_seeds(trainings: Array, rate: float) -> Table:
    """Return the gate's decisions on real trainings that differ in their seed alone, (trainings, banks) of FID."""
    table = Table("compared", "noise", "pairs", "promoted", title="real trainings, equal but for their seed")
    half = len(trainings) // 2
    first, second = trainings[0 : 2 * half : 2], trainings[1 : 2 * half : 2]
    table.add_row("one training with another", "sampling", f"{half}", f"{promoted(first, second, rate):.1%}")
    every = [(i, j) for i in range(len(trainings)) for j in range(len(trainings)) if i != j]
    ones, others = (np.stack([trainings[pair[side]] for pair in every]) for side in (0, 1))
    table.add_row("every one with every other", "sampling", f"{len(every)}", f"{promoted(ones, others, rate):.1%}")
    means, rng = trainings.mean(axis=1), np.random.default_rng(0)
    drawn = np.stack([rng.permutation(means)[: 2 * GROUP] for _ in range(PAIRS)])
    share = promoted(drawn[:, :GROUP], drawn[:, GROUP:], rate)
    table.add_row(f"{GROUP} trainings with {GROUP} others, drawn", "seeds", f"{PAIRS}", f"{share:.1%}")
    return table


def main() -> None:
    """Measure, print and draw."""
    paths = {
        name: Path(path) for name, path in yaml.safe_load(Path("dvc.yaml").read_text())["vars"][0]["paths"].items()
    }
    values, console = params.load(), Console(width=120, highlight=False)
    torch.set_num_threads(1)
    scorer = Scorer(paths["prepared"], paths["extractor"], values.compute, values.evaluate)
    network, config, _ = load_generator(paths["generator"])
    laboratory = Laboratory(scorer, generate(network, z_bank(config, seed=10**6, count=POOL)))
    rate = values.register.false_promotion_rate
    found = power(laboratory, IMPROVEMENTS, BUDGETS, rate)
    table = Table("improvement", *(f"{banks} banks" for banks in BUDGETS), title=f"promoted of {PAIRS} challengers")
    for improvement, by_banks in found.items():
        table.add_row(f"{improvement:.0%}", *(f"{share:.1%}" for share in by_banks.values()))
    console.print(table)
    PICTURE.write_bytes(draw(found, scorer.count, rate))
    banks = read_evaluation("the pipeline's model", paths["evaluation"]).banks
    trainings = banks.pivot(index="training", columns="bank", values="fid").to_numpy()
    if len(trainings) >= 2 * GROUP:
        console.print(by_seeds(trainings, rate))
        between, within = trainings.mean(axis=1).std(ddof=1), trainings.std(axis=1, ddof=1).mean()
        mean = trainings.mean()
        console.print(f"FID {mean:.2f}: standard deviation {between:.2f} between trainings, {within:.2f} between banks")


if __name__ == "__main__":
    main()
