"""Scores of a training's snapshots, which of them becomes the generator, and whether the training still improved."""

import csv
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from gan_core.config import ComputeConfig
from gan_core.generation.generate import generate
from gan_core.generation.generator_file import load_generator
from gan_core.generation.latents import z_bank
from gan_core.metrics.features import extract
from gan_core.metrics.kid import Kid, difference, kid, p_value
from gan_core.runtime.device import pick_device
from gan_core.runtime.randomness import stream
from mlops.project.params import ChooseConfig
from mlops.project.prepared_data import load_images, load_labels
from mlops.project.result_files import CHOICE, CURVE, save_json
from mlops.scoring.comparison import shown_interval
from mlops.scoring.evaluation import suffix
from mlops.scoring.extractor_files import describe_extractor, load_extractor
from mlops.scoring.samples import sampled

Checkpoint = Literal["last", "best"]
Trend = Literal["worse", "level", "better", "unknown"]
"""Of the last snapshot: some other is better, or none and over the last third it has improved by no more than noise."""
Kids = dict[int, Kid]
"""Of snapshots by step, all of the same latents and real images."""
ABOVE = ("above_last", "low", "high")
"""Columns of the curve: by how much a score is above that of the last snapshot, and the 95 % interval of that."""
RATE = 0.05
"""How often, at most, a snapshot is called better than one that is as good: a Bonferroni bound over the snapshots."""

SEED = 2_147_483_647
"""Of latents and of the sample of real images: none that `evaluate` is likely to measure the choice by."""
AT_ONCE = 256
"""Images in memory at once, about, while their features are extracted."""


class SnapshotScorer:
    """Scores generators on the same latents, labels and real images; of these, `real` are the features."""

    def __init__(self, prepared: Path, extractor: Path, compute: ComputeConfig, config: ChooseConfig) -> None:
        self._device, self._count = pick_device(compute), config.images
        self._extractor, description = load_extractor(extractor, self._device), describe_extractor(extractor)
        self._batch, self.metric = description["batch_size"], f"kid{suffix({'extractor': description})}"
        self._at_once = self._batch * -(-AT_ONCE // self._batch)
        real = sampled(prepared, "validation", config.images, seed=SEED, purpose="choosing images")
        known = load_labels(prepared, "validation")
        drawn = torch.randint(len(real), (config.images,), generator=stream(SEED, "choosing labels"))
        self._labels = None if known is None else torch.from_numpy(known)[real[drawn]]
        self.real = self._features(torch.from_numpy(load_images(prepared, "validation")[real.numpy()]))

    def kid(self, path: Path) -> Kid:
        """Return the score of a generator, a safetensors file."""
        network, config, classes = load_generator(path)
        network.to(self._device)
        z = z_bank(config, seed=SEED, count=self._count)
        inputs = [z, self._labels] if classes and self._labels is not None else [z]
        parts = zip(*(values.split(self._at_once) for values in inputs), strict=True)
        return kid(torch.cat([self._features(generate(network, *part)) for part in parts]), self.real)

    def _features(self, pixels: Tensor) -> Tensor:
        return extract(self._extractor, pixels, device=self._device, batch_size=self._batch).features


def best_step(kids: Kids) -> int:
    """Return the step of the lowest KID if it is lower than that of the last by more than noise, else the last."""
    last, lowest = max(kids), min(kids, key=lambda step: kids[step].value)
    return lowest if (len(kids) - 1) * p_value(kids[lowest], kids[last]) < RATE else last


def trend(kids: Kids) -> Trend:
    """Return how the last snapshot compares with the best one, and with the one two thirds of the way there."""
    last = max(kids, default=0)
    if kids and best_step(kids) != last:
        return "worse"
    before = _two_thirds(kids)
    if before is None:
        return "unknown"
    return "better" if p_value(kids[last], kids[before]) < RATE else "level"


def _two_thirds(kids: Kids) -> int | None:
    return max((step for step in kids if 3 * step <= 2 * max(kids)), default=None)


def chosen_step(kids: Kids, last: int, checkpoint: Checkpoint) -> int:
    """Return the step of the generator; without scores that is the last."""
    return best_step(kids) if kids and checkpoint == "best" else last


def choice_of(kids: Kids, last: int, checkpoint: Checkpoint, *, metric: str, real: int) -> dict[str, Any]:
    """Return the content of `choice.json`: the chosen step, why it was chosen, and the trend.

    Args:
        kids: of the snapshots; none if the images are too few.
        last: the step of the last snapshot.
        checkpoint: what was asked for.
        metric: the name of the score.
        real: validation images that they were scored against.

    Returns:
        `step`, `last`, `checkpoint`, `trend`, `metric`, `real_images` and `sentence`.
    """
    facts = {"step": chosen_step(kids, last, checkpoint), "last": last, "checkpoint": checkpoint, "trend": trend(kids)}
    sentence = _sentence(kids, facts, metric) if kids else _unscored(last, real)
    return facts | {"metric": metric, "real_images": real, "sentence": sentence}


def _unscored(last: int, real: int) -> str:
    return f"the generator is that of step {last:,}, the last; {real} validation images are too few to compare others"


def _sentence(kids: Kids, facts: dict[str, Any], metric: str) -> str:
    step, last, state = facts["step"], facts["last"], facts["trend"]
    best = best_step(kids)
    lower = f"its {metric} on validation images is lower by {shown_interval(difference(kids[last], kids[best]))}"
    if step != last:
        return f"the generator is that of step {step:,} of {last:,}, better than the last by more than noise: {lower}"
    start = f"the generator is that of step {last:,}, the last"
    if state == "worse":
        remedy = "set choose.checkpoint to best, or train for fewer steps"
        return f"{start}, but that of step {best:,} is better by more than noise: {lower}; {remedy}"
    if facts["checkpoint"] == "best":
        start += ", for none is better by more than noise"
    more = {
        "level": f"{metric} has not improved significantly since step {_two_thirds(kids) or 0:,}",
        "better": f"{metric} still fell over the last third of the steps",
        "unknown": "",
    }[state]
    return f"{start}; {more}" if more else start


def curve(kids: Kids, metric: str) -> list[dict[str, float]]:
    """Return a row for each snapshot: its step, its score under the name of the metric, and the columns `ABOVE`."""
    above = {step: difference(each, kids[max(kids)]) for step, each in kids.items()}
    return [
        {"step": step, metric: kids[step].value} | dict(zip(ABOVE, (over.mean, over.low, over.high), strict=True))
        for step, over in above.items()
    ]


def write_choice(folder: Path, kids: Kids, facts: dict[str, Any]) -> None:
    """Write `choice.json`, and as `snapshots.csv` the rows of `curve`, into a new folder."""
    save_json(folder / CHOICE, facts)
    with (folder / CURVE).open("w", newline="") as file:
        rows = csv.DictWriter(file, ("step", facts["metric"], *ABOVE), lineterminator="\n")
        rows.writeheader()
        rows.writerows(curve(kids, facts["metric"]))
