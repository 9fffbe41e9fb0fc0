"""The stage `choose`: a score of every snapshot against validation images, and the snapshot that is the generator."""

import shutil
from pathlib import Path

import torch
from torch import Tensor

from gan_core.config import FEWEST_SCORED, ComputeConfig
from gan_core.generation.generate import generate
from gan_core.generation.generator_file import load_generator
from gan_core.generation.latents import z_bank
from gan_core.metrics.features import extract
from gan_core.metrics.kid import Kid, kid
from gan_core.runtime.device import configure_torch, pick_device
from gan_core.runtime.randomness import stream
from mlops.figures.curves import snapshots_picture
from mlops.project.params import ChooseConfig
from mlops.project.prepared_data import load_images, load_labels
from mlops.project.progress import progress
from mlops.project.result_files import CURVE_PICTURE, save_json, snapshots
from mlops.safety.new_outputs import Output
from mlops.scoring.choice import Kids, choice_of, chosen_step, curve, write_choice
from mlops.scoring.evaluation import suffix
from mlops.scoring.extractor_files import describe_extractor, load_extractor
from mlops.scoring.samples import sampled

SEED = 2_147_483_647
"""Of latents and of the sample of real images: none that `evaluate` is likely to measure the choice by."""
AT_ONCE = 256
"""Images in memory at once, about, while their features are extracted."""


def choose(
    prepared: Path,
    extractor: Path,
    trained: Path,
    replicated: Path,
    generator: Output,
    replicas: Output,
    choice: Output,
    *,
    compute: ComputeConfig,
    choose: ChooseConfig,
) -> None:
    """Choose the generator among the snapshots of a training, and among those of each of its replicas alike.

    Each is scored by the unbiased KID between images of the same latents, and of the same labels if it takes any, and
    validation images. Test images, by which the gate decides, have no part in it.

    Args:
        prepared: what `prepare` wrote.
        extractor: in whose features images are compared.
        trained: the snapshots that `train` wrote.
        replicated: the folders of snapshots that `replicate` wrote.
        generator: new; the chosen snapshot, byte for byte.
        replicas: new; a folder with the chosen snapshot of each replica, `SEED.safetensors`, and `steps.json`.
        choice: new; a folder with `choice.json` (the step, why it was chosen, whether the training still improves),
            `snapshots.csv` (scores by step, and their differences from that of the last with 95 % intervals) and
            `snapshots.png`.
        compute: device and threads.
        choose: which snapshot, and how many images are compared.
    """
    configure_torch(compute)
    scorer = _Scorer(prepared, extractor, compute, choose)
    own, others = snapshots(trained), {int(folder.name): snapshots(folder) for folder in replicated.glob("[0-9]*")}
    kids = _kids(scorer, [own, *(others.values() if choose.checkpoint == "best" else ())])
    facts = choice_of(kids[0], max(own), choose.checkpoint, metric=scorer.metric, real=len(scorer.real))
    shutil.copyfile(own[facts["step"]], generator)
    write_choice(choice, kids[0], facts)
    picture = snapshots_picture(curve(kids[0], scorer.metric), scorer.metric, facts["step"])
    (choice / CURVE_PICTURE).write_bytes(picture)
    scored = dict(zip(others, kids[1:], strict=False))  # none if the last is asked for
    steps = {seed: chosen_step(scored.get(seed, {}), max(paths), choose.checkpoint) for seed, paths in others.items()}
    save_json(replicas / "steps.json", {str(seed): step for seed, step in steps.items()})
    for seed, step in steps.items():
        shutil.copyfile(others[seed][step], replicas / f"{seed}.safetensors")
    print(f"choose: {facts['sentence']}")


def _kids(scorer: "_Scorer", trainings: list[dict[int, Path]]) -> list[Kids]:
    """Return the scores of the snapshots of each training; none if the real images are too few."""
    if len(scorer.real) < FEWEST_SCORED:
        return [{} for _ in trainings]
    scored: list[Kids] = []
    with progress("choose: snapshots", sum(map(len, trainings))) as line:
        for paths in trainings:
            scored.append({})
            for step, path in paths.items():
                scored[-1][step] = scorer.kid(path)
                line.update(sum(map(len, scored)))
    return scored


class _Scorer:
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
