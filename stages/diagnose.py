"""The stage `diagnose`: the doctor's verdict on a finished training, and a picture of what it rests on."""

from dataclasses import asdict
from pathlib import Path

import torch

from gan_core.config import ComputeConfig, DoctorConfig
from gan_core.doctor import Doctor, Readings
from gan_core.generation.generate import generate
from gan_core.generation.generator_file import load_generator
from gan_core.generation.latents import z_bank
from gan_core.metrics.features import extract
from gan_core.metrics.pictures import spacing, spectral_distance
from gan_core.runtime.device import configure_torch, pick_device
from mlops.figures.curves import instruments_picture
from mlops.project.prepared_data import load_images, load_labels
from mlops.project.result_files import DIAGNOSIS, HISTORY, INSTRUMENTS, load_history, save_json
from mlops.safety.new_outputs import Output
from mlops.scoring.extractor_files import describe_extractor, load_extractor
from mlops.scoring.samples import sampled

IMAGES = 500
"""Generated and real test images, at most, that are looked at."""
SEED = 0
"""Of the latents and of the sample of test images."""


def diagnose(
    prepared: Path,
    extractor: Path,
    generator: Path,
    training: Path,
    diagnosis: Output,
    *,
    compute: ComputeConfig,
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
        doctor: which readings are a failure.
    """
    rows = load_history(training / HISTORY)
    pictures = _look(prepared, extractor, generator, compute)
    result = Doctor(doctor, steps=int(rows[-1]["step"])).read_all(rows, pictures)
    save_json(diagnosis / DIAGNOSIS, asdict(result))
    (diagnosis / INSTRUMENTS).write_bytes(instruments_picture(rows, result.sentence))
    print(f"doctor: {result.sentence}")


def _look(prepared: Path, extractor: Path, generator: Path, compute: ComputeConfig) -> Readings:
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
    ours, theirs = (extract(features, part, device=device, batch_size=size).features for part in (generated, real))
    return {"spacing": spacing(ours, theirs), "spectral_distance": spectral_distance(generated, real)}
