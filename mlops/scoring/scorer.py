"""What `evaluate` measures: the scores of real images, of noise, and of every bank of a generator's images."""

from collections.abc import Iterator
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from gan_core.config import FEWEST_SCORED, ComputeConfig
from gan_core.generation.generate import generate
from gan_core.generation.generator_file import LoadedGenerator, load_generator
from gan_core.generation.latents import z_bank
from gan_core.metrics.efficientnet import SIDE
from gan_core.metrics.features import Features, extract, joined
from gan_core.metrics.neighbours import (
    COPY_NEIGHBOURS,
    COPY_RATIO,
    DENSITY_NEIGHBOURHOOD,
    LOST_CLASS,
    NEIGHBOURHOOD,
    Neighbours,
)
from gan_core.metrics.parzen import SAMPLES, VALIDATION, ParzenScore, parzen
from gan_core.metrics.scores import DIRECTIONS, DRAWS_SEED, Settings, fid, scores, superimposed, uniform_noise
from gan_core.runtime.device import configure_torch, pick_device
from gan_core.runtime.distributed import rank, world_size
from gan_core.runtime.randomness import stream
from mlops.project.code_digest import code_sha256
from mlops.project.errors import UserError
from mlops.project.identity import dvc_md5
from mlops.project.params import EvaluateConfig
from mlops.project.prepared_data import load_images, load_labels, load_summary
from mlops.scoring.evaluation import References, Skill
from mlops.scoring.extractor_files import describe_extractor, load_extractor, load_real
from mlops.scoring.samples import described, sampled

RESIZED = {
    "classifier": "as they are",
    "efficientnet-lite0": f"to {SIDE} pixels, bilinear, larger ones as they are",
    "inception-v3": "to 299 pixels as TensorFlow 1, bilinear",
}
AT_ONCE = 256
"""Images, at least, in memory at once, 50 MB at 256 pixels in colour, while their features are extracted."""
LIBRARIES = ("torch", "torch-fidelity", "numpy", "scipy")


class Bank(NamedTuple):
    """One bank of z: number, every metric, features of its images, the training images nearest to them."""

    number: int
    metrics: dict[str, float]
    features: Features
    neighbours: Neighbours


class Scorer:
    """Scores images against the training images of one folder, with one extractor and one set of numbers.

    `scored` are the indices of the test images that are scored. An extractor or features of other images, or too few
    images, are a `UserError`.
    """

    def __init__(self, prepared: Path, extractor: Path, compute: ComputeConfig, config: EvaluateConfig) -> None:
        configure_torch(compute)
        self.device, self.config, self.prepared = pick_device(compute), config, prepared
        self.extractor, self.description = load_extractor(extractor, self.device), describe_extractor(extractor)
        self.reference, real = load_real(prepared, extractor, self.device)
        self.scored = sampled(prepared, "test", config.max_images, seed=config.seed, purpose="scored test images")
        self.real_features, self._logits = Features(real.features[self.scored], real.logits[self.scored]), real.logits
        self.summary, self._data = load_summary(prepared), {"data_md5": dvc_md5(prepared), "threads": compute.threads}
        self.count, labels = len(self.scored), load_labels(prepared, "test")
        self.labels = None if labels is None else torch.from_numpy(labels)
        self.scored_labels = None if self.labels is None else self.labels[self.scored]
        named = self._logits.shape[1] == self.reference.classes
        self._names_classes = named and self.description["kind"] == "classifier"
        subset = min(config.kid_subset_size, self.count, len(self.reference.features))
        splits = min(config.isc_splits, self.count // 2)  # of one image each, IS would be 1 whatever the images are
        self.settings = Settings(splits, config.kid_subsets, subset)
        self.few = self.count < 2 * self.extractor.dimension
        batch = self.description["batch_size"]
        self.at_once = batch * -(-AT_ONCE // batch)  # whole batches: their number of images decides on bits
        self._check_count()

    def _check_count(self) -> None:
        if self.count < FEWEST_SCORED:
            raise UserError(
                f"{self.count} test images cannot be scored, which takes {FEWEST_SCORED}; raise prepare.test_share in "
                "params.yaml, or add images"
            )
        if self.few:
            few = (
                f"{self.count} images are few for {self.extractor.dimension} features: FID is biased upwards and noisy"
            )
            if self.config.few_images == "refuse":
                raise UserError(f"{few}; add test images, or set evaluate.few_images in params.yaml to mark")
            print(f"warning: {few}; compare it only with scores of the same number of images, or add test images")

    def real(self) -> dict[str, float]:
        """Return the scores of the test images `scored`."""
        measured, _ = scores(self.real_features, self.reference, self.settings)
        return measured | self.label_accuracy(self.real_features, self.scored_labels)

    def references(self) -> References:
        """Return the FID of as many images of a trivial generator, and of uniform noise."""
        shape = (self.count, self.summary.channels, self.summary.size, self.summary.size)
        train = torch.from_numpy(load_images(self.prepared, "train"))
        trivial = superimposed(train, self.count, stream(self.config.seed, "trivial images"), self.at_once)
        noise = uniform_noise(shape, stream(self.config.seed, "noise images"), self.at_once)
        both = (joined(map(self.features, parts)).features for parts in (trivial, noise))
        return References(*(fid(features, self.reference) for features in both))

    def skill(self) -> Skill | None:
        """Return how well the extractor names the classes of the test images; None if it does not name these."""
        if self.labels is None or not self._names_classes:
            return None
        right = self._logits.argmax(dim=1) == self.labels
        return Skill(right.double().mean().item(), self.labels.bincount().max().item() / len(self.labels))

    def label_accuracy(self, images: Features, labels: Tensor | None) -> dict[str, float]:
        """Return the share of images that carry, for a classifier of these classes, their label; else nothing."""
        if labels is None or not self._names_classes:
            return {}
        return {"label_accuracy": images.logits.argmax(dim=1).cpu().eq(labels).double().mean().item()}

    def own_banks(self) -> list[int]:
        """Return the banks of z that this rank scores: all ranks together every bank, and each as many as the others.

        If the ranks do not divide the banks, some are scored twice, in time in which these ranks would wait.
        """
        each = -(-self.config.banks // world_size())
        return [(rank() + index * world_size()) % self.config.banks for index in range(each)]

    def banks(self, generator: Path) -> Iterator[Bank]:
        """Score a generator, a safetensors file, on this rank's banks of z.

        A conditional generator's i-th image is of the class of the i-th scored real image.
        """
        network, config, classes = load_generator(generator)
        network.to(self.device)
        labels = self.scored_labels if classes else None
        for bank in self.own_banks():
            z = z_bank(config, seed=self.config.seed, count=self.count, first=bank * self.count)
            inputs = [values.split(self.at_once) for values in (z, labels) if values is not None]
            features = joined(self.features(generate(network, *part)) for part in zip(*inputs, strict=True))
            measured, neighbours = scores(features, self.reference, self.settings)
            yield Bank(bank, measured | self.label_accuracy(features, labels), features, neighbours)

    def images(self, generator: LoadedGenerator, chosen: Tensor) -> Tensor:
        """Return the images (n, C, H, W) uint8 of a generator whose numbers in the first bank are `chosen` (n,)."""
        z = z_bank(generator.config, seed=self.config.seed, count=self.count)[chosen]
        labels = self.scored_labels[chosen] if generator.classes and self.scored_labels is not None else None
        return generate(generator.network.to(self.device), z, labels)

    def parzen(self, generator: Path) -> ParzenScore:
        """Return the log-likelihood of all test images by the 2014 paper's protocol, on the z of the first banks.

        Sigma is chosen on a sample of the validation images.
        """
        network, config, classes = load_generator(generator)
        z, labels = z_bank(config, seed=self.config.seed, count=SAMPLES), None
        if classes and self.labels is not None:
            chosen = torch.randint(len(self.labels), (SAMPLES,), generator=stream(self.config.seed, "Parzen labels"))
            labels = self.labels[chosen]
        samples = generate(network.to(self.device), z, labels).to(self.device)
        chosen = sampled(self.prepared, "validation", VALIDATION, seed=self.config.seed, purpose="Parzen validation")
        validation = torch.tensor(load_images(self.prepared, "validation")[chosen.numpy()], device=self.device)
        if len(validation) < VALIDATION:
            print(
                f"warning: {len(validation)} validation images choose the width of the Parzen window; the 2014 paper "
                f"had {VALIDATION:,}"
            )
        test = torch.from_numpy(load_images(self.prepared, "test"))
        return parzen(samples=samples, validation=validation, test=test)

    def features(self, pixels: Tensor) -> Features:
        """Return the features of images (N, C, H, W) uint8."""
        return extract(self.extractor, pixels, device=self.device, batch_size=self.description["batch_size"])

    def passport(self) -> dict[str, Any]:
        """Return what gives the scores their meaning, beside the generator: not how many draws they are means of.

        The seed is in it if it chose the real images.
        """
        summary, settings = self.summary, asdict(self.settings)
        settings.pop("kid_subsets")
        reference = {"data": summary.name, "split": "train", "images": summary.train}
        real = {"split": "test"} | described(self.prepared, "test", self.config.max_images, seed=self.config.seed)
        shape = f"{summary.size} pixels, {summary.channels} channels"
        return {
            "extractor": {name: self.description[name] for name in ("name", "kind", "sha256", "batch_size")},
            "resizer": f"{shape}, {RESIZED[self.description['kind']]}",
            "reference": reference | {"dvc_md5": self._data["data_md5"], "manifold": self.description["manifold"]},
            "compared": {"generated": self.count, "real": real, "noise": self.count}
            | ({} if self.labels is None else {"labels_if_conditional": "those of the real images"})
            | {"trivial": {"superimposed": 2, "split": "train", "images": self.count}},
            "settings": settings | {"draws_seed": DRAWS_SEED, "mind_directions": DIRECTIONS},
            "neighbours": {
                "precision_and_recall": NEIGHBOURHOOD,
                "density_and_coverage": DENSITY_NEIGHBOURHOOD,
                "near_copies": [COPY_NEIGHBOURS, round(COPY_RATIO, 4)],
                "lost_class": LOST_CLASS,
            },
            "code": code_sha256("mlops/scoring/scorer.py"),
            "device": self.device.type,
            "threads": self._data["threads"],
            "libraries": {name: version(name) for name in LIBRARIES},
        }
