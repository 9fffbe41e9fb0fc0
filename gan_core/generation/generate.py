"""Generated images whose bits do not depend on how many are asked for."""

import torch
from torch import Tensor, nn

from gan_core.runtime.pixels import to_pixels

BATCH_SIZE = 64
"""Images generated at once. Constant, because matrix products may round differently for another number of rows."""


@torch.no_grad()
def generate(generator: nn.Module, z: Tensor) -> Tensor:
    """Return the generated images of z as uint8 (N, C, H, W) on the CPU.

    The generator works in evaluation mode and is left in the mode it was in. The last batch is filled up to
    `BATCH_SIZE`, so that an image depends on its own z alone.

    Args:
        generator: maps z (B, Z) to images (B, C, H, W) in [-1, 1].
        z: (N, Z), on any device, N at least 1.

    Returns:
        Pixels in [0, 255].
    """
    was_training = generator.training
    device = next(generator.parameters()).device
    generator.eval()
    try:
        return torch.cat([_generate_batch(generator, batch.to(device)) for batch in z.split(BATCH_SIZE)])
    finally:
        generator.train(was_training)


def _generate_batch(generator: nn.Module, z: Tensor) -> Tensor:
    missing = BATCH_SIZE - len(z)
    filled = torch.cat([z, z.new_zeros(missing, z.shape[1])])
    return to_pixels(generator(filled))[: len(z)].cpu()
