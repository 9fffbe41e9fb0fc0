"""Time and memory of scoring beside torch-fidelity's command line, as whole processes.

`python -m benchmarks scoring [ROUNDS]` scores 10,000 images of 28 pixels against 50,000 by the features of one
classifier. torch-fidelity computes FID alone, on images that are in memory already, which is faster than its usual
folders of PNG files; with its own loader processes, and without them. About 6 minutes.
"""

import subprocess
import sys
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import numpy as np
import torch
from torch import Tensor

from benchmarks.harness.rounds import in_turns, ratio
from benchmarks.harness.tables import Table
from gan_core.metrics.classifier import Classifier
from gan_core.metrics.features import Extractor, Features, classifier_extractor, extract
from gan_core.metrics.scores import Reference, Settings, fid, inception_score, kid_of_subsets, scores
from gan_core.runtime.tensor_files import load_tensors, save_tensors

GENERATED, REFERENCE = 10_000, 50_000
SETTINGS = Settings(isc_splits=10, kid_subsets=100, kid_subset_size=1000)
CPU, BATCH_SIZE = torch.device("cpu"), 64
THEIRS = "torch-fidelity's command line, FID"
KINDS = {
    THEIRS: ("theirs",),
    f"{THEIRS}, without loader processes": ("theirs", "--save-cpu-ram"),
    "FID, IS and KID": ("few",),
    "FID, IS and KID, reference kept": ("few-kept",),
    "all scores": ("all",),
    "all scores, reference kept": ("all-kept",),
}


def load_classifier(folder: Path) -> Extractor:
    """Return the extractor of both sides."""
    tensors, shape = load_tensors(folder / "classifier.safetensors")
    classifier = Classifier(**shape)
    classifier.load_state_dict(tensors)
    return classifier_extractor(classifier.requires_grad_(False), channels=1, sha256="0" * 64)


def images(folder: Path, name: str) -> Tensor:
    """Return one of the two sets."""
    return torch.tensor(np.load(folder / f"{name}.npy"))


def theirs(folder: Path, options: Sequence[str]) -> None:
    """Run torch-fidelity's own `main` with images and classifier registered."""
    from torch_fidelity.fidelity import main  # here, so that no measured process of ours imports it

    from benchmarks.peers.fidelity import register, register_images

    extractor = load_classifier(folder)
    register(extractor)
    register_images({name: images(folder, name) for name in ("generated", "reference")})
    chosen = ["--input1", "generated", "--input2", "reference", "--feature-extractor", extractor.name]
    sys.argv = ["fidelity", "--cpu", "--fid", "--silent", "--no-cache", *chosen, *options]
    main()


def ours(folder: Path, kind: str) -> None:
    """Score as the stages `extractor` and `evaluate` do, from the same files."""
    extractor = load_classifier(folder)
    generated = extract(extractor, images(folder, "generated"), device=CPU, batch_size=BATCH_SIZE)
    if kind.endswith("-kept"):
        reference = kept(folder)
    else:
        features = extract(extractor, images(folder, "reference"), device=CPU, batch_size=BATCH_SIZE).features
        reference = Reference.of(features) if kind == "all" else Reference(features, torch.empty(0), None, 0)
    print(scores(generated, reference, SETTINGS)[0] if kind.startswith("all") else few(generated, reference))


def few(generated: Features, reference: Reference) -> dict[str, float]:
    """Return FID, IS and KID alone."""
    kid = kid_of_subsets(generated.features, reference.features, SETTINGS.kid_subsets, SETTINGS.kid_subset_size)
    return {
        "fid": fid(generated.features, reference),
        "kid": kid,
        "is": inception_score(generated.logits, SETTINGS.isc_splits),
    }


def kept(folder: Path) -> Reference:
    """Return the reference as the stage `extractor` keeps it."""
    tensors, _ = load_tensors(folder / "reference.safetensors")
    return Reference(tensors["features"], tensors["radii"], None, 0)


def set_up(folder: Path) -> None:
    """Write both sets of images, a classifier, and features and radii of the reference."""
    from benchmarks.harness.images import digits  # here, so that no measured process imports it

    pictures = digits(28, 1)
    for name, count in (("reference", REFERENCE), ("generated", GENERATED)):
        noise = np.random.default_rng(count).integers(0, 32, (count, 1, 28, 28), np.uint8)  # no two images are equal
        np.save(folder / f"{name}.npy", pictures[np.arange(count) % len(pictures)] // 2 + noise)
    classifier = Classifier(size=28, channels=1, classes=10)
    save_tensors(
        folder / "classifier.safetensors", dict(classifier.state_dict()), {"size": 28, "channels": 1, "classes": 10}
    )
    reference = Reference.of(
        extract(load_classifier(folder), images(folder, "reference"), device=CPU, batch_size=64).features
    )
    save_tensors(folder / "reference.safetensors", {"features": reference.features, "radii": reference.radii}, {})


def measured(folder: Path, arguments: Sequence[str]) -> tuple[float, float]:
    """Return wall time in seconds and peak memory in GB of one process; loader processes have memory of their own."""
    command = [sys.executable, "-m", "benchmarks.scoring", str(folder), *arguments]
    started = time.perf_counter()
    subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)
    seconds = time.perf_counter() - started
    return seconds, int((folder / "peak").read_text()) / 1e6


def write_peak(folder: Path) -> None:
    """Write this process's peak of resident memory in kB; the parent's count would include the parent's own peak."""
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    (folder / "peak").write_text(line.split()[1])


def table(rounds: str = "7") -> Table:
    """Measure every kind in turn, round after round."""
    memory: dict[str, float] = {}

    def way(kind: str, arguments: Sequence[str], folder: Path) -> float:
        seconds, memory[kind] = measured(folder, arguments)
        return seconds

    with TemporaryDirectory() as name:
        set_up(Path(name))
        ways = {kind: partial(way, kind, arguments, Path(name)) for kind, arguments in KINDS.items()}
        seconds = in_turns("scoring", ways, int(rounds))
    rows = tuple(
        (kind, f"{median(times):.1f}", f"{ratio(seconds, kind, THEIRS):.2f}", f"{memory[kind]:.2f}")
        for kind, times in seconds.items()
    )
    words = (
        f"{GENERATED:,} images against {REFERENCE:,}, whole processes with their imports, medians of {rounds} rounds. "
        "`kept` reads the features of the reference from a file, as the stage `evaluate` does. Loader processes of "
        "torch-fidelity have memory of their own, which is not counted."
    )
    return Table("scoring beside torch-fidelity", ("process", "seconds", "relative", "peak memory, GB"), rows, words)


if __name__ == "__main__":
    place, kind, *options = sys.argv[1:]
    if kind == "theirs":
        theirs(Path(place), options)
    else:
        ours(Path(place), kind)
    write_peak(Path(place))
