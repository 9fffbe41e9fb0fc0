"""Training on 1,000 to 1,000,000 images: time to the first step, memory and throughput.

`python -m benchmarks scale [ROUNDS] [LARGEST]`. The stage `train` as a process of its own, as DVC starts it, on images
of 32 pixels in colour as `prepare` writes them: 3 kB each, 3 GB in all. Sizes take turns, round after round.
"""

import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import yaml

from benchmarks.harness.images import prepared_images
from benchmarks.harness.tables import Table
from mlops.project.progress import progress

ROOT = Path(__file__).resolve().parent.parent
SIZES = (1_000, 10_000, 100_000, 1_000_000)
STEPS, WARM_UP = 220, 20
PARAMS = {
    "compute": {"device": "auto", "threads": 1},
    "network": {
        "family": "dcgan",
        "z_dim": 64,
        "z_distribution": "normal",
        "generator_width": 16,
        "discriminator_width": 16,
    },
    "train": {"steps": STEPS, "loss": "non_saturating", "r1_gamma": 0.0, "r2_gamma": 0.0},
}
Reading = tuple[float, float, float]
"""Seconds to the first step, peak of anonymous memory in MB, images per second."""


def table(rounds: str = "3", largest: str = "1000000") -> Table:
    """Measure every size in turn."""
    sizes = [size for size in SIZES if size <= int(largest)]
    readings: dict[int, list[Reading]] = {size: [] for size in sizes}
    with TemporaryDirectory() as name, progress("scale: trainings", len(sizes) * int(rounds)) as line:
        for size in sizes:
            set_up(Path(name) / str(size), size)
        for done in range(int(rounds)):
            for place, size in enumerate(sizes):
                readings[size].append(measured(Path(name) / str(size)))
                line.update(done * len(sizes) + place + 1)
    rows = []
    for size, rounds_of_size in readings.items():
        first, memory, speed = (median(column) for column in zip(*rounds_of_size, strict=True))
        ratio = median(one[2] / base[2] for one, base in zip(rounds_of_size, readings[sizes[0]], strict=True))
        megabytes = size * 3072 / 1e6
        rows.append(
            (f"{size:,}", f"{megabytes:,.0f}", f"{first:.1f}", f"{memory:,.0f}", f"{speed:,.0f}", f"{ratio:.2f}")
        )
    draw(readings)
    words = (
        f"Medians of {rounds} rounds. The first step is counted from the start of the process. Memory is anonymous, at "
        "its peak, without the pages of the images' file, which the system reclaims when it needs them."
    )
    return Table("training on more images", COLUMNS, tuple(rows), words)


COLUMNS = ("images", "MB of pixels", "first step after, s", "memory, MB", "images per second", "relative")


def set_up(folder: Path, count: int) -> None:
    """Write prepared images, parameters, and the entry of the images in dvc.lock."""
    prepared_images(folder / "prepared", count, size=32, channels=3)
    values = yaml.safe_load((ROOT / "params.yaml").read_text())
    for section, changes in PARAMS.items():
        values[section] = changes if "family" in changes else values[section] | changes
    (folder / "params.yaml").write_text(yaml.safe_dump(values))
    size = sum(path.stat().st_size for path in (folder / "prepared").iterdir())
    outs = [{"path": "prepared", "md5": f"{count:032x}.dir", "size": size}]
    (folder / "dvc.lock").write_text(yaml.safe_dump({"stages": {"prepare": {"outs": outs}}}))


def measured(folder: Path) -> Reading:
    """Run the stage as a process and return its readings."""
    with TemporaryDirectory(dir=folder) as name:
        variables = {"DVC_STAGE": "train", "DVC_ROOT": name, "PYTHONPATH": str(ROOT)}
        started = time.time()
        subprocess.run(
            [sys.executable, "-m", "benchmarks.scale", name],
            cwd=folder,
            env=os.environ | variables,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            check=True,
        )
        first, memory, speed = (float(word) for word in (Path(name) / "readings").read_text().split())
    return first - started, memory, speed


def run(folder: Path) -> None:
    """Train as `python -m stages train` does, and record when steps end."""
    import mlops.runs.run
    import stages.__main__
    from gan_core.training.loop import train

    times, memory = list[float](), [0.0]
    threading.Thread(target=record_memory, args=(memory,), daemon=True).start()

    def recorded(*arguments):  # type: ignore[no-untyped-def]
        for report in train(*arguments):
            times.append(time.time())
            yield report

    mlops.runs.run.train = recorded  # type: ignore[attr-defined]  # the name that the stage calls
    stages.__main__.main("train", "prepared", str(folder / "snapshots"), str(folder / "training"))
    speed = 64 * (STEPS - WARM_UP) / (times[-1] - times[WARM_UP - 1])
    (folder / "readings").write_text(f"{times[0]} {max(memory)} {speed}")


def record_memory(memory: list[float]) -> None:
    """Append this process's anonymous memory, in MB, ten times a second."""
    while True:
        lines = Path("/proc/self/status").read_text().splitlines()
        (anonymous,) = (line for line in lines if line.startswith("RssAnon"))
        memory.append(int(anonymous.split()[1]) / 1e3)
        time.sleep(0.1)


def draw(readings: dict[int, list[Reading]]) -> None:
    """Draw the three columns against the number of images."""
    from matplotlib.figure import Figure  # here and below, so that the measured process does not load it

    from mlops.figures.curves import BLUE, png_of

    figure = Figure(figsize=(10, 3.2), layout="constrained")
    titles = ("seconds to the first step", "memory, MB", "images per second")
    for place, (axes, title) in enumerate(zip(figure.subplots(1, 3), titles, strict=True)):
        values = [median(reading[place] for reading in rounds) for rounds in readings.values()]
        axes.semilogx(list(readings), values, "o-", color=BLUE)
        axes.set_ylim(0, 1.2 * max(values))
        axes.set_xlabel("images of 32 x 32 pixels")
        axes.set_title(title, loc="left", fontsize=11)
        axes.spines[["top", "right"]].set_visible(False)
    (ROOT / "docs" / "pictures" / "scale.png").write_bytes(png_of(figure))


if __name__ == "__main__":
    run(Path(sys.argv[1]))
