"""Which settings fit images of one's own and a machine."""

from typing import Any

from mlops.advice.findings import Findings

PRESET = "images-32"
"""For images of one's own."""
FAR_TOO_FEW, FEW = 100, 1000
"""Training images below which a generator has nothing to learn but copies, and below which D memorises them soon."""
LARGE_SIZE, LARGE_FROM = 64, 5000
"""Pixels on a GPU, if there are as many training images; on a CPU they take hours."""
SMALLEST = 8


def fitting(found: Findings, *, size: int, batch_size: int, cores: int, is_gpu: bool) -> dict[str, dict[str, Any]]:
    """Return what of the preset is to be changed, by section and key.

    Args:
        found: what the images are, prepared as the preset has it.
        size: of the preset, in pixels.
        batch_size: of the preset.
        cores: of the processor.
        is_gpu: whether torch finds a GPU.

    Returns:
        One channel for images without colour; the largest power of two that is no larger than most originals, with more
        pixels on a GPU alone; batches of at most a quarter of the training images; a thread for each core but
        one, up to 8, for a team of threads waits at every operation for a core that another program holds.
    """
    changes: dict[str, dict[str, Any]] = {"prepare": {}, "train": {}, "compute": {}}
    if found.is_grey and found.summary.channels == 3:
        changes["prepare"]["channels"] = 1
    fits = LARGE_SIZE if is_gpu and found.summary.train >= LARGE_FROM else size
    while found.side is not None and fits > max(found.side, SMALLEST):
        fits //= 2
    if fits != size:
        changes["prepare"]["image_size"] = fits
    batch = batch_size
    while batch > max(4, found.summary.train // 4):
        batch //= 2
    if batch != batch_size:
        changes["train"]["batch_size"] = batch
    if cores > 2 and not is_gpu:
        changes["compute"]["threads"] = min(cores - 1, 8)
    return {section: values for section, values in changes.items() if values}


def enough(images: int, preset: str) -> str:
    """Return whether so many distinct training images are enough, and what to do if they are not.

    `preset` is the command that takes a preset for the data, up to its name.
    """
    if images < FAR_TOO_FEW:
        return f"no: of {images:,} training images a generator learns copies at best; add some thousand"
    if images < FEW:
        return (
            f"hardly: the discriminator soon knows {images:,} training images by heart; add images if you can, or try "
            f"{preset} NAME=small-data, which augments them and takes longer"
        )
    return f"yes: {images:,} distinct training images"
