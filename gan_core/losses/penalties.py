"""Penalties on the discriminator's gradient with respect to images, each a scalar that can be differentiated again.

The gradient is of one image's logit with respect to that image; in a discriminator with batch normalisation the images
of a batch act on each other too, which the first two count differently.
"""

import torch
from torch import Tensor

DISTANCE = 0.01
"""s, the standard deviation of the noise of finite differences, in units of images, whose pixels are in [-1, 1]."""


def gradient_penalty(logits: Tensor, images: Tensor) -> Tensor:
    """Return E ||grad_x D(x)||^2 / 2 with D in logits: R1 on real images, R2 on generated ones (Mescheder et al. 2018).

    Args:
        logits: (B,), computed from `images`.
        images: (B, ...), with `requires_grad`.

    Returns:
        A scalar that can be differentiated again, at least 0.
    """
    return _gradients(logits, images).square().sum(dim=1).mean() / 2


def finite_difference_penalty(*, logits: Tensor, moved_logits: Tensor) -> Tensor:
    """Return E ((D(x + s n) - D(x)) / s)^2 / 2, an estimate of R1 or R2 without double backward.

    As s vanishes, its expectation over n ~ N(0, 1) is that of (grad_x D(x) . n)^2 / 2, which is ||grad_x D(x)||^2 / 2:
    Lin et al. 2025, arXiv:2501.08316, with the factor of Mescheder et al. 2018. Rounding of logits to a
    relative 2^-9 in bfloat16 adds about (2^-9 D(x) / s)^2 / 2, whose derivative has no direction of its own.

    Args:
        logits: (B,), D(x).
        moved_logits: (B,), D(x + s n) with s = `DISTANCE` and the same dropout and augmentation.

    Returns:
        A scalar, at least 0.
    """
    return ((moved_logits - logits) / DISTANCE).square().mean() / 2


def interpolated_penalty(logits: Tensor, images: Tensor) -> Tensor:
    """Return E (||grad_x D(x)|| - 1)^2: Gulrajani et al. 2017, arXiv:1704.00028, equation 3.

    Zero for a critic of slope 1 everywhere, as the optimal one has between paired real and generated samples
    (Proposition 1).

    Args:
        logits: (B,), computed from `images`.
        images: (B, ...), with `requires_grad`: u x + (1 - u) G(z) with u uniform in [0, 1] for each pair.

    Returns:
        A scalar that can be differentiated again, at least 0.
    """
    norms: Tensor = torch.linalg.vector_norm(
        _gradients(logits, images), dim=1
    )  # differentiable at 0 too, unlike a root
    return (norms - 1).square().mean()


def _gradients(logits: Tensor, images: Tensor) -> Tensor:
    """Return the gradient of each logit with respect to its image, (B, values of an image)."""
    (gradients,) = torch.autograd.grad(logits.sum(), images, create_graph=True)
    return gradients.flatten(1)
