import pytest
import torch

from gan_core.losses.penalties import gradient_penalty


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
