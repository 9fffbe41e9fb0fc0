"""Images as bytes and as inputs of networks."""

import torch
from torch import Tensor


def to_unit_range(pixels: Tensor) -> Tensor:
    """Return float images in [-1, 1] for uint8 pixels in [0, 255], of any shape: x = p / 127.5 - 1."""
    return pixels.float() / 127.5 - 1


def to_pixels(images: Tensor) -> Tensor:
    """Return uint8 pixels in [0, 255] for images in [-1, 1], of any shape: 127.5 (x + 1), rounded."""
    return ((images + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
