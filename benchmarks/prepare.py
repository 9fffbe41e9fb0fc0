"""Time of `prepare` on one and on two cores, and its memory, for 1,000 to 1,000,000 images. Prints one table.

`python -m benchmarks prepare [LARGEST] [ROUNDS]` generates PNG files of 32 x 32 pixels in colour, packed as `fetch`
packs a folder, and runs the whole stage as a process that may use one core or two. The numbers of images go up to
LARGEST in steps of ten. One run on two cores gives the memory, which is the sum over all processes of the stage; ROUNDS
alternating rounds (3) are timed after it, with nothing else beside them and nothing left to write to the disk. They
take about 12 minutes and 8 GB of disk.
"""

import csv
import os
import struct
import subprocess
import sys
import tarfile
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from shutil import rmtree
from statistics import median
from tempfile import TemporaryDirectory

import numpy as np
import yaml
from matplotlib.figure import Figure
from numpy.typing import NDArray

from benchmarks.harness.memory import tree_memory
from benchmarks.harness.tables import Table
from mlops.figures.curves import BLUE, GREY, ORANGE, png_of
from mlops.images.image_tar import COLUMNS, IMAGES_LIST, IMAGES_TAR, Member
from mlops.images.worker_pool import cores, mapped
from mlops.project.progress import progress

ROOT = Path(__file__).resolve().parent.parent
PICTURE = ROOT / "docs" / "pictures" / "prepare.png"
SIDE = 32
AT_ONCE = 1000
COUNTS = (1_000, 10_000, 100_000, 1_000_000)
BOUND = 2.0
"""GB that the stage may use, whatever the number of images."""


@dataclass(frozen=True)
class Cost:
    """Of the stage: largest sum of its processes' proportional set sizes, in GB; seconds on one and on two cores."""

    memory: float
    rounds: list[tuple[float, float]]


def _png(image: NDArray[np.uint8]) -> bytes:
    """Return an image (H, W, 3) as a PNG file; Pillow takes three times as long."""
    height, width, _ = image.shape
    header = struct.pack(">2I5B", width, height, 8, 2, 0, 0, 0)
    lines = np.zeros((height, 1 + 3 * width), np.uint8)  # each with filter 0 before it
    lines[:, 1:] = image.reshape(height, -1)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(lines.tobytes(), 1)), (b"IEND", b""))
    packed = (
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(packed)


def packed(number: int) -> tuple[bytes, list[Member]]:
    """Return the tar members of 1,000 images: 4 x 4 patches of random colours under some noise, in ten classes."""
    rng = np.random.default_rng(number)
    patches = rng.integers(16, 240, (AT_ONCE, 4, 4, 3)).repeat(8, axis=1).repeat(8, axis=2)
    images = (patches + rng.integers(-8, 9, patches.shape)).astype(np.uint8)
    parts, members = [], []
    end = 0
    for index, image in enumerate(images, start=number * AT_ONCE):
        content = _png(image)
        member = tarfile.TarInfo(f"class-{index % 10}/{index:07}.png")
        member.size = len(content)
        header = member.tobuf(tarfile.PAX_FORMAT)
        parts += [header, content, bytes(-len(content) % tarfile.BLOCKSIZE)]
        members.append((member.name, end + len(header), len(content)))
        end += sum(map(len, parts[-3:]))
    return b"".join(parts), members


def make_project(folder: Path, count: int) -> None:
    """Write the parameters, and what `fetch` makes of a folder of images."""
    values = yaml.safe_load((ROOT / "params.yaml").read_text())
    values["data"] = {"name": "folder", "path": "."}
    values["prepare"] |= {"image_size": SIDE, "channels": 3}
    (folder / "raw").mkdir(parents=True)
    (folder / "params.yaml").write_text(yaml.safe_dump(values))
    parts = mapped(packed, range(count // AT_ONCE), processes=cores())
    with (
        (folder / "raw" / IMAGES_TAR).open("wb") as tar,
        (folder / "raw" / IMAGES_LIST).open("w", newline="") as index,
        progress("images generated", count) as line,
    ):
        rows = csv.writer(index, lineterminator="\n")
        rows.writerow(COLUMNS)
        for done, (part, members) in enumerate(parts, start=1):
            rows.writerows((name, tar.tell() + offset, size) for name, offset, size in members)
            tar.write(part)
            line.update(done * AT_ONCE)
        tar.write(bytes(tarfile.RECORDSIZE))


@contextmanager
def _stage(folder: Path, count: int) -> Iterator["subprocess.Popen[bytes]"]:
    """Run the stage on `count` cores, all of it; wait for its end."""
    for made in ("prepared", ".checkpoints"):
        rmtree(folder / made, ignore_errors=True)
    os.sync()
    cpus = os.sched_getaffinity(0)
    command = [sys.executable, "-m", "stages", "prepare", "raw", "prepared"]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "DVC_ROOT": str(folder)}
    os.sched_setaffinity(0, set(sorted(cpus)[:count]))  # inherited
    with subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.DEVNULL) as process:
        os.sched_setaffinity(0, cpus)
        yield process
    if process.returncode != 0:
        raise SystemExit(f"the stage ended with {process.returncode}")


def _seconds(folder: Path, count: int) -> float:
    with _stage(folder, count) as process:
        started = time.perf_counter()
        process.wait()
        return time.perf_counter() - started


def _memory(folder: Path) -> float:
    """Return the peak memory of the stage on two cores, in GB; sampling it takes time of a core."""
    memory = 0.0
    with _stage(folder, 2) as process:
        while process.poll() is None:
            memory = max(memory, tree_memory(process.pid))
            time.sleep(0.1)
    return memory


def measured(count: int, rounds: int) -> Cost:
    """Return the cost of the stage; the run that measures memory reads the files for the first time."""
    with TemporaryDirectory(prefix="prepare-") as name:
        folder = Path(name)
        make_project(folder, count)
        return Cost(_memory(folder), [(_seconds(folder, 1), _seconds(folder, 2)) for _ in range(rounds)])


def draw(costs: dict[int, Cost]) -> bytes:
    """Return time and memory over the number of images as a PNG file."""
    figure = Figure(figsize=(10, 4), layout="constrained")
    times, memories = figure.subplots(1, 2)
    for place, (label, colour) in enumerate((("one core", BLUE), ("two cores", ORANGE))):
        seconds = [median(pair[place] for pair in cost.rounds) for cost in costs.values()]
        times.plot(list(costs), seconds, "o-", color=colour, label=label)
    memories.plot(list(costs), [cost.memory for cost in costs.values()], "o-", color=ORANGE, label="two cores")
    memories.axhline(BOUND, color=GREY, linestyle="--", linewidth=1, label="bound")
    times.set_yscale("log")
    memories.set_ylim(0, None)
    for axes, title in ((times, "seconds"), (memories, "peak memory of all processes, GB")):
        axes.set_xscale("log")
        axes.set_xlabel(f"images of {SIDE} x {SIDE} pixels")
        axes.set_title(title, loc="left", fontsize=11)
        axes.legend(frameon=False, fontsize=9)
        axes.spines[["top", "right"]].set_visible(False)
    return png_of(figure)


def table(largest: str = "1000000", rounds: str = "3") -> Table:
    """Measure and draw.

    Args:
        largest: number of images.
        rounds: of one core and two in turns.

    Returns:
        One row for each number of images.
    """
    costs, rows = {}, []
    for count in (count for count in COUNTS if count <= int(largest)):
        costs[count] = cost = measured(count, int(rounds))
        one, two = (median(pair[place] for pair in cost.rounds) for place in (0, 1))
        ratio = median(one / two for one, two in cost.rounds)
        rows.append((f"{count:,}", f"{one:.1f}", f"{two:.1f}", f"{ratio:.2f}", f"{cost.memory:.2f}"))
    PICTURE.write_bytes(draw(costs))
    words = (
        f"The stage as a process that may use one core or two; PNG files of {SIDE} x {SIDE} pixels in colour, in a tar "
        f"that is in the page cache. Medians of {rounds} rounds, the ratio within each round. Memory is the largest "
        "sum of the proportional set sizes of all its processes, in one more run on two cores. Few images are decoded "
        "without processes of their own."
    )
    columns = ("images", "one core, s", "two cores, s", "ratio", "peak memory, GB")
    return Table("prepare: time and memory", columns, tuple(rows), words)
