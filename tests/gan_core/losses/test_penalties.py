from itertools import pairwise

import pytest
import torch
from torch import Tensor

from gan_core.losses import penalties
from gan_core.losses.penalties import (
    DISTANCE,
    finite_difference_penalty,
    gradient_penalty,
    interpolated_penalty,
)


def test_the_penalty_of_a_linear_discriminator_is_half_its_squared_slope() -> None:
    rng = torch.Generator().manual_seed(0)
    slope = torch.randn(3, 4, 4, generator=rng, dtype=torch.float64).requires_grad_()
    images = torch.randn(5, 3, 4, 4, generator=rng, dtype=torch.float64).requires_grad_()
    penalty = gradient_penalty((images * slope).sum(dim=(1, 2, 3)) + 2, images)
    assert penalty.shape == ()
    assert penalty.item() == pytest.approx(slope.square().sum().item() / 2, rel=1e-12)
    penalty.backward()
    assert slope.grad is not None
    assert torch.allclose(slope.grad, slope.detach(), rtol=1e-12, atol=0)


def test_the_penalty_of_a_quadratic_discriminator_averages_over_images() -> None:
    rng = torch.Generator().manual_seed(1)
    matrix = torch.randn(32, 32, generator=rng, dtype=torch.float64)
    images = torch.randn(6, 2, 4, 4, generator=rng, dtype=torch.float64).requires_grad_()
    flat = images.flatten(1)
    penalty = gradient_penalty(torch.einsum("bi,ij,bj->b", flat, matrix, flat), images)
    gradients = flat.detach() @ (matrix + matrix.T)
    assert penalty.item() == pytest.approx((gradients**2).sum().item() / 6 / 2, rel=1e-12)


def normal(*shape: int, seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def smooth(images: Tensor, weights: Tensor) -> Tensor:
    """Return logits (B,) of a discriminator of one curved layer, (values of an image, units), for images (B, ...)."""
    return torch.tanh(images.flatten(1) @ weights).square().sum(dim=1)


def test_finite_differences_tend_to_the_exact_penalty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Instead of normal n, whose mean of n n^T is the identity, as many directions of which that holds exactly."""
    size, weights = 12, normal(12, 5, seed=0)
    image = normal(1, size, seed=1)
    exact = gradient_penalty(smooth(image.requires_grad_(), weights), image).item()
    noise = size**0.5 * torch.linalg.qr(normal(size, size, seed=2)).Q
    errors = []
    for distance in (1e-2, 1e-3, 1e-4, 1e-5):
        monkeypatch.setattr(penalties, "DISTANCE", distance)
        logits, moved = (smooth(image + s * noise, weights) for s in (0.0, distance))
        errors.append(abs(finite_difference_penalty(logits=logits, moved_logits=moved).item() - exact) / exact)
    assert errors[0] < 0.1
    assert all(after < before / 5 for before, after in pairwise(errors))


def test_finite_differences_of_a_linear_discriminator_are_its_slope_along_the_noise() -> None:
    slope, images, noise = normal(6, seed=0), normal(4, 6, seed=1), normal(4, 6, seed=2)
    penalty = finite_difference_penalty(logits=images @ slope, moved_logits=(images + DISTANCE * noise) @ slope)
    assert penalty.item() == pytest.approx((noise @ slope).square().mean().item() / 2, rel=1e-9)


def test_the_interpolated_penalty_of_a_linear_discriminator_is_the_excess_of_its_slope() -> None:
    slope, images = normal(3, 4, 4, seed=0), normal(5, 3, 4, 4, seed=1).requires_grad_()
    penalty = interpolated_penalty((images * slope).sum(dim=(1, 2, 3)), images)
    assert penalty.item() == pytest.approx((slope.norm().item() - 1) ** 2, rel=1e-12)


def test_a_constant_critic_gets_a_finite_gradient() -> None:
    weights, images = torch.zeros(6, dtype=torch.float64, requires_grad=True), normal(4, 6, seed=0).requires_grad_()
    penalty = interpolated_penalty(images @ weights, images)
    (gradient,) = torch.autograd.grad(penalty, weights)
    assert penalty.item() == 1
    assert gradient.isfinite().all()


@pytest.mark.parametrize("name", ["exact", "finite_difference", "interpolated"])
def test_what_the_discriminator_descends_is_the_penaltys_derivative(name: str) -> None:
    """By finite differences in the weights; for the first and the last it is of second order in the network."""
    images, noise = normal(3, 6, seed=0), normal(3, 6, seed=1)

    def penalty(weights: Tensor) -> Tensor:
        x = images.clone().requires_grad_()
        logits = smooth(x, weights)
        if name == "finite_difference":
            return finite_difference_penalty(logits=logits, moved_logits=smooth(x + DISTANCE * noise, weights))
        return (gradient_penalty if name == "exact" else interpolated_penalty)(logits, x)

    assert torch.autograd.gradcheck(penalty, normal(6, 4, seed=2).requires_grad_())
