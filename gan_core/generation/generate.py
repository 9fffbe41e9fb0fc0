"""Generated images whose bits do not depend on how many are asked for."""

import torch
from torch import Tensor, nn

from gan_core.runtime.pixels import to_pixels

BATCH_SIZE = 64
"""Images generated at once. Constant, because matrix products may round differently for another number of rows."""


@torch.no_grad()
def generate(generator: nn.Module, z: Tensor, labels: Tensor | None = None) -> Tensor:
    """Return the generated images of z, and of labels if the generator takes any, as uint8 (N, C, H, W) on the CPU.

    The generator works in evaluation mode and is left in the mode it was in. The last batch is filled up to
    `BATCH_SIZE`, so that an image depends on its own z and label, and by rounding on its place in its batch, alone.

    Args:
        generator: maps z (B, Z), and labels (B,) if it is conditional, to images (B, C, H, W) in [-1, 1].
        z: (N, Z), on any device, N at least 1.
        labels: (N,) int64, on any device, for a conditional generator.

    Returns:
        Pixels in [0, 255].
    """
    was_training = generator.training
    device = next(generator.parameters()).device
    generator.eval()
    try:
        inputs = [values.to(device) for values in (z, labels) if values is not None]
        batches = zip(*(values.split(BATCH_SIZE) for values in inputs), strict=True)
        return torch.cat([_generate_batch(generator, *batch) for batch in batches])
    finally:
        generator.train(was_training)


def _generate_batch(generator: nn.Module, *inputs: Tensor) -> Tensor:
    count = len(inputs[0])
    filled = [torch.cat([values, values.new_zeros(BATCH_SIZE - count, *values.shape[1:])]) for values in inputs]
    return to_pixels(generator(*filled))[:count].cpu()
