"""Images as bytes and as what networks see."""

import torch
from torch import Generator, Tensor


def to_unit_range(pixels: Tensor) -> Tensor:
    """Return float images in [-1, 1] for uint8 pixels in [0, 255], of any shape: x = p / 127.5 - 1."""
    return pixels.float() / 127.5 - 1


def to_pixels(images: Tensor) -> Tensor:
    """Return uint8 pixels in [0, 255] for images in [-1, 1], of any shape: 127.5 (x + 1), rounded."""
    return ((images + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)


def take(images: Tensor, indices: Tensor, device: torch.device) -> Tensor:
    """Return some of the images on a device; `images` may be there already, or on the CPU, mapped from a file.

    Args:
        images: (N, ...), of any type.
        indices: (B,), on the CPU.
        device: where the result is.

    Returns:
        (B, ...), as the images are stored; no other image is touched.
    """
    return images[indices.to(images.device, non_blocking=True)].to(device, non_blocking=True)


def draw_batch(images: Tensor, count: int, rng: Generator, device: torch.device) -> Tensor:
    """Return what a discriminator sees of `count` images, drawn with replacement in O(count).

    Args:
        images: (N, C, H, W) uint8, or points of a known density (N, D) float, on `device` or on the CPU.
        count: at least 1.
        rng: on the CPU.
        device: where the result is.

    Returns:
        Images (count, C, H, W) in [-1, 1]; points (count, D) as they are.
    """
    batch = take(images, torch.randint(len(images), (count,), generator=rng), device)
    return to_unit_range(batch) if batch.dtype == torch.uint8 else batch
