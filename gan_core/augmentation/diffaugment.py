"""DiffAugment: Zhao et al. 2020, arXiv:2006.10738, section 3 and appendix A.

Images are (B, C, H, H) in [-1, 1]; each row of `draws`, uniform in [0, 1), transforms one of them. All transforms are
differentiable any number of times, as gradient penalties require, and sum in a fixed order on every device.
"""

from collections.abc import Callable

import torch
from torch import Tensor

SHIFT, CUT = 0.125, 0.5
"""Largest shift, and side of the square that is cut out, relative to the side of an image."""


def color(images: Tensor, draws: Tensor) -> Tensor:
    """Return images with another brightness, saturation and contrast, by three draws each.

    Added is U(-0.5, 0.5); distances of a pixel's channels from their mean are multiplied by U(0, 2), which changes
    nothing if there is one channel; distances of all values from the image's mean by U(0.5, 1.5).
    """
    brightness, saturation, contrast = draws[:, :, None, None, None].unbind(1)
    images = images + (brightness - 0.5)
    if images.shape[1] > 1:
        images = images.mean(dim=1, keepdim=True).lerp(images, 2 * saturation)
    return images.mean(dim=(1, 2, 3), keepdim=True).lerp(images, contrast + 0.5)


def translation(images: Tensor, draws: Tensor) -> Tensor:
    """Return images shifted by whole pixels along both axes, by two draws each: y[i] = x[i + t], 0 outside.

    Each shift is uniform on the integers from -t to t, t being an eighth of the side, rounded. They are products with
    matrices of 0 and 1: exact, and, unlike gathering, summed in a fixed order when differentiated on a GPU.
    """
    side = images.shape[-1]
    largest = int(SHIFT * side + 0.5)
    shifts = (draws * (2 * largest + 1)).floor().to(torch.int64) - largest
    places = torch.arange(side, device=images.device)
    moved = (places + shifts[:, :, None])[..., None] == places  # (B, 2, H, H)
    down, right = moved.to(images.dtype)[:, :, None].unbind(1)
    return down @ images @ right.mT


def cutout(images: Tensor, draws: Tensor) -> Tensor:
    """Return images with a square of 0, mid-grey, of half the side; by two draws each its centre is anywhere."""
    side = images.shape[-1]
    square = int(CUT * side + 0.5)
    first = (draws * (side + 1 - square % 2)).floor() - square // 2
    places = torch.arange(side, device=images.device) - first[:, :, None]
    down, right = ((places >= 0) & (places < square)).unbind(1)
    cut = down[:, None, :, None] & right[:, None, None, :]
    return images * ~cut


TRANSFORMS: dict[str, tuple[Callable[[Tensor, Tensor], Tensor], int]] = {
    "color": (color, 3),
    "translation": (translation, 2),
    "cutout": (cutout, 2),
}
"""The transforms of a policy by their names, in the order in which they are applied, and how many draws each takes."""
