"""Penalties on the discriminator's gradient."""

import torch
from torch import Tensor


def gradient_penalty(logits: Tensor, images: Tensor) -> Tensor:
    """Return E ||grad_x D(x)||^2 / 2 with D in logits: R1 on real images, R2 on generated ones (Mescheder et al. 2018).

    Args:
        logits: (B,), computed from `images`.
        images: (B, ...), with `requires_grad`.

    Returns:
        A scalar that can be differentiated again, at least 0.
    """
    (gradient,) = torch.autograd.grad(logits.sum(), images, create_graph=True)
    return gradient.flatten(1).square().sum(dim=1).mean() / 2
