"""The stage `evaluate`: scores of generated images beside those of real ones and of noise, with their passport."""

import hashlib
import json
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from gan_core.config import ComputeConfig
from gan_core.device import pick_device
from gan_core.fidelity import Extractor, Scores, scores, uniform_noise
from gan_core.parzen import SAMPLES, SIGMAS, VALIDATION, ParzenScore, parzen
from gan_core.randomness import stream
from gan_core.sampling import generate, z_bank
from gan_core.weights import load_generator
from stages.errors import StageError
from stages.extractor import describe_extractor, load_extractor
from stages.lineage import dvc_md5
from stages.params import EvaluateConfig
from stages.pictures import png_bytes, side_by_side
from stages.prepared import Summary, load_images, load_summary
from stages.results import COMPARISON, PASSPORT, SCORES, save_json

LIBRARIES = ("torch", "torch-fidelity", "numpy", "scipy")


def evaluate(
    prepared: Path,
    extractor: Path,
    generator: Path,
    evaluation: Path,
    *,
    compute: ComputeConfig,
    evaluate: EvaluateConfig,
) -> None:
    """Write FID and IS of generated images, real test images and uniform noise: the same number of each.

    All are measured against the training images. A metric bears its extractor's name: `fid_digits`; `fid` alone is
    that of Inception. `fid_*_to_real` is the generator's FID divided by that of real test images, `fid_*_to_noise` that
    divided by the FID of noise. With `parzen`, also the 2014 paper's log-likelihood in nats, see `gan_core.parzen`.

    Args:
        prepared: what `prepare` wrote.
        extractor: what `extractor` wrote.
        generator: what `train` wrote.
        evaluation: new; a folder with `scores.json` (with the sha256 of their passport), `passport.json` (everything
            that the scores depend on) and `comparison.png` (generated images beside real ones).
        compute: device and threads.
        evaluate: seed of the bank of z, number of images, batch size, splits of IS, whether to estimate likelihood.

    Raises:
        StageError: the extractor's weights are not those that were made, or the test images are too few to be scored.
    """
    device = pick_device(compute)
    features = load_extractor(extractor, device)
    test = torch.tensor(load_images(prepared, "test"))
    count = min(evaluate.max_images, len(test))
    _check_count(count, evaluate.isc_splits, features)
    sets = _image_sets(generator, test[:count], evaluate.seed, device)
    found = scores(
        features,
        sets,
        torch.tensor(load_images(prepared, "train")),
        device=device,
        batch_size=evaluate.batch_size,
        isc_splits=evaluate.isc_splits,
    )
    papers = _passport(prepared, extractor, count, device, compute, evaluate)
    named = _named(found, papers["extractor"]) | {"images": count, "passport": _sha256(papers)}
    if evaluate.parzen:
        likelihood = _parzen(prepared, generator, evaluate.seed, device)
        print(f"log-likelihood under a Parzen window: {likelihood.mean:.1f} ± {likelihood.standard_error:.1f} nats")
        named |= {f"parzen_{name}": value for name, value in asdict(likelihood).items()}
    save_json(evaluation / SCORES, named)
    save_json(evaluation / PASSPORT, papers)
    panels = {name: sets[name].numpy() for name in ("generated", "real")}
    (evaluation / COMPARISON).write_bytes(png_bytes(side_by_side(panels)))
    _print_table(found, papers["extractor"]["name"])


def _protocol(summary: Summary) -> dict[str, Any]:
    """Return what the likelihood depends on beside the data and the generator."""
    validation = min(VALIDATION, summary.validation)
    if validation < VALIDATION:
        print(f"warning: {validation} validation images choose the window's width; the 2014 paper had {VALIDATION:,}")
    return {"samples": SAMPLES, "validation": validation, "test": summary.test, "sigmas": SIGMAS}


def _parzen(prepared: Path, generator: Path, seed: int, device: torch.device) -> ParzenScore:
    """Return the log-likelihood of all test images by the protocol of the 2014 paper; the bank of z is that of FID."""
    network, config = load_generator(generator)
    samples = generate(network.to(device), z_bank(config, seed=seed, count=SAMPLES)).to(device)
    validation = torch.tensor(load_images(prepared, "validation")[:VALIDATION], device=device)
    test = torch.tensor(load_images(prepared, "test"), device=device)
    return parzen(samples=samples, validation=validation, test=test)


def _image_sets(generator: Path, test: torch.Tensor, seed: int, device: torch.device) -> dict[str, torch.Tensor]:
    """Return as many generated and noise images as there are real ones, uint8."""
    network, config = load_generator(generator)
    z = z_bank(config, seed=seed, count=len(test))
    noise = uniform_noise(tuple(test.shape), stream(seed, "noise images"))
    return {"generated": generate(network.to(device), z), "real": test, "noise": noise}


def _check_count(count: int, isc_splits: int, extractor: Extractor) -> None:
    if count < max(2, isc_splits):
        raise StageError(
            f"{count} test images cannot be scored with evaluate.isc_splits of {isc_splits} in params.yaml; lower it, "
            "raise prepare.test_share or add images"
        )
    if count < 2 * extractor.features:
        print(
            f"warning: {count} images are few for {extractor.features} features: FID is biased upwards and noisy; "
            "compare it only with scores of the same number of images, or add test images"
        )


def _passport(
    prepared: Path,
    extractor: Path,
    count: int,
    device: torch.device,
    compute: ComputeConfig,
    config: EvaluateConfig,
) -> dict[str, Any]:
    summary = load_summary(prepared)
    return {
        "extractor": describe_extractor(extractor),
        "resizer": f"none: {summary.size} pixels, {summary.channels} channels",
        "reference": {"data": summary.name, "split": "train", "dvc_md5": dvc_md5(prepared), "images": summary.train},
        "compared": {"generated": count, "real": {"split": "test", "images": count}, "noise": count},
        "settings": asdict(config),
        "parzen": _protocol(summary) if config.parzen else None,
        "device": device.type,
        "threads": compute.threads,
        "libraries": {name: version(name) for name in LIBRARIES},
    }


def _named(found: dict[str, Scores], extractor: dict[str, str]) -> dict[str, float]:
    suffix = "" if extractor["kind"] == "inception-v3" else f"_{extractor['name']}"
    generated, real, noise = found["generated"], found["real"], found["noise"]
    return {
        f"fid{suffix}": generated.fid,
        f"fid{suffix}_of_real": real.fid,
        f"fid{suffix}_of_noise": noise.fid,
        f"fid{suffix}_to_real": generated.fid / real.fid,
        f"fid{suffix}_to_noise": generated.fid / noise.fid,
        f"is{suffix}": generated.isc,
        f"is{suffix}_std": generated.isc_std,
        f"is{suffix}_of_real": real.isc,
    }


def _sha256(papers: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(papers, sort_keys=True).encode()).hexdigest()


def _print_table(found: dict[str, Scores], name: str) -> None:
    table = Table(title=f"scores against the training images, extractor {name}", title_justify="left")
    for column in ("images", "FID", "IS"):
        table.add_column(column, justify="left" if column == "images" else "right")
    for images, score in found.items():
        table.add_row(images, f"{score.fid:.2f}", f"{score.isc:.2f} ± {score.isc_std:.2f}")
    Console().print(table)
