"""The stage `diagnose`: the doctor's verdict on a finished training, and a picture of what it rests on."""

from dataclasses import asdict
from pathlib import Path

import torch
from torch import Tensor

from gan_core.augmentation.augment import alone, augmented, draws_of
from gan_core.config import AugmentationConfig, ComputeConfig, DoctorConfig
from gan_core.doctor import Doctor, Readings
from gan_core.generation.generate import generate
from gan_core.generation.generator_file import load_generator
from gan_core.generation.latents import z_bank
from gan_core.metrics.features import extract
from gan_core.metrics.kid import kid, multiple
from gan_core.metrics.pictures import leaked_shares, spacing, spectral_distance
from gan_core.metrics.scores import superimposed
from gan_core.runtime.device import configure_torch, pick_device
from gan_core.runtime.pixels import to_pixels, to_unit_range
from gan_core.runtime.randomness import stream
from mlops.figures.curves import instruments_picture
from mlops.project.prepared_data import load_images, load_labels
from mlops.project.result_files import DIAGNOSIS, HISTORY, INSTRUMENTS, load_history, save_json
from mlops.safety.new_outputs import Output
from mlops.scoring.extractor_files import describe_extractor, load_extractor
from mlops.scoring.samples import sampled

IMAGES = 500
"""Generated and real test images, at most, that are looked at."""
SEED = 0
"""Of the latents, of the sample of test images and of their augmentation."""
TELLING = ("geometry", "cutout")
"""Transforms whose traces ragged pictures do not resemble, as they do those of colour and shifts."""


def diagnose(
    prepared: Path,
    extractor: Path,
    generator: Path,
    training: Path,
    diagnosis: Output,
    *,
    compute: ComputeConfig,
    augmentation: AugmentationConfig,
    doctor: DoctorConfig,
) -> None:
    """Write the doctor's diagnosis of a training.

    Args:
        prepared: what `prepare` wrote.
        extractor: in whose features repetition is looked for.
        generator: whose pictures are looked at.
        training: the folder that `train` wrote.
        diagnosis: new; a folder with `diagnosis.json` (verdict, the step since which it holds, a sentence,
            what may help, the evidence) and `instruments.png` (the readings through training).
        compute: device and threads.
        augmentation: whose traces are looked for.
        doctor: which readings are a failure.
    """
    rows = load_history(training / HISTORY)
    pictures = _look(prepared, extractor, generator, compute, augmentation)
    result = Doctor(doctor, steps=int(rows[-1]["step"])).read_all(rows, pictures)
    save_json(diagnosis / DIAGNOSIS, asdict(result))
    (diagnosis / INSTRUMENTS).write_bytes(instruments_picture(rows, result.sentence))
    print(f"doctor: {result.sentence}")


def _look(
    prepared: Path, extractor: Path, generator: Path, compute: ComputeConfig, augmentation: AugmentationConfig
) -> Readings:
    """Return the readings of the generator's pictures beside as many real test images."""
    configure_torch(compute)
    device = pick_device(compute)
    chosen = sampled(prepared, "test", IMAGES, seed=SEED, purpose="diagnosed test images")
    real = torch.from_numpy(load_images(prepared, "test")[chosen.numpy()])
    network, config, classes = load_generator(generator)
    known = load_labels(prepared, "test") if classes else None
    labels = None if known is None else torch.from_numpy(known)[chosen]
    generated = generate(network.to(device), z_bank(config, seed=SEED, count=len(real)), labels)
    features, size = load_extractor(extractor, device), describe_extractor(extractor)["batch_size"]
    traces = transformed(real, augmentation)
    train = torch.from_numpy(load_images(prepared, "train"))
    trivial = torch.cat(list(superimposed(train, len(real), stream(SEED, "diagnosed trivial images"), size)))
    ours, theirs, nothing, *others = (
        extract(features, part, device=device, batch_size=size).features.cpu()
        for part in (generated, real, trivial, *traces.values())
    )
    readings = {"spacing": spacing(ours, theirs), "spectral_distance": spectral_distance(generated, real)}
    if (ratio := multiple(kid(ours, theirs), kid(nothing, theirs))) is not None:
        readings["kid_to_trivial"] = ratio
    shares = leaked_shares(ours, theirs, dict(zip(traces, others, strict=True)))
    telling = [share for name, share in shares.items() if name in TELLING]
    return readings | ({"leaked": max(telling)} if telling else {})


def transformed(real: Tensor, augmentation: AugmentationConfig) -> dict[str, Tensor]:
    """Return images as each transform of an augmentation leaves them, by its name."""
    always, images = torch.tensor(1.0), dict[str, Tensor]()
    for name, transform in alone(augmentation).items():
        draws = torch.rand(len(real), draws_of(transform), generator=stream(SEED, f"diagnosed {name}"))
        images[name] = to_pixels(augmented(to_unit_range(real), draws, transform, always))
    return images
