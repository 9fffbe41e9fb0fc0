"""The stage `choose`: a score of every snapshot against validation images, and the snapshot that is the generator."""

import shutil
from pathlib import Path

from gan_core.config import FEWEST_SCORED, ComputeConfig
from gan_core.runtime.device import configure_torch
from mlops.figures.curves import snapshots_picture
from mlops.project.params import ChooseConfig
from mlops.project.progress import progress
from mlops.project.result_files import CURVE_PICTURE, save_json, snapshots
from mlops.safety.new_outputs import Output
from mlops.scoring.choice import Kids, SnapshotScorer, choice_of, chosen_step, curve, write_choice


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
    scorer = SnapshotScorer(prepared, extractor, compute, choose)
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


def _kids(scorer: SnapshotScorer, trainings: list[dict[int, Path]]) -> list[Kids]:
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
