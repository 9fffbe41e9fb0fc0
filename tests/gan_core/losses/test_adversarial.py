import math
from collections.abc import Callable
from typing import Literal

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from gan_core.losses.adversarial import (
    OBJECTIVES,
    discriminator_loss,
    minimax_generator_loss,
    non_saturating_generator_loss,
    objective_logits,
    relativistic_discriminator_loss,
    relativistic_generator_loss,
)
from gan_core.losses.penalties import gradient_penalty

Loss = Callable[..., Tensor]
Pair = tuple[list[float], list[float]]
pairs = st.integers(1, 6).flatmap(
    lambda count: st.tuples(*[st.lists(st.floats(-9, 9), min_size=count, max_size=count)] * 2)
)
"""Real and fake logits, as many of each, so moderate that log(sigmoid(.)) of their differences is exact enough."""


def sigmoid(logit: float) -> float:
    return 1 / (1 + math.exp(-logit))


def mean(values: list[float]) -> float:
    return math.fsum(values) / len(values)


def tensors(pair: Pair) -> dict[str, Tensor]:
    return {
        name: torch.tensor(x, dtype=torch.float64) for name, x in zip(("real_logits", "fake_logits"), pair, strict=True)
    }


FORMULAS: list[tuple[Loss, Callable[[float, float], float]]] = [
    (discriminator_loss, lambda r, f: -math.log(sigmoid(r)) - math.log(1 - sigmoid(f))),
    (minimax_generator_loss, lambda r, f: math.log(1 - sigmoid(f))),
    (non_saturating_generator_loss, lambda r, f: -math.log(sigmoid(f))),
    (relativistic_discriminator_loss, lambda r, f: -math.log(sigmoid(r - f))),
    (relativistic_generator_loss, lambda r, f: -math.log(sigmoid(f - r))),
]
by_loss = pytest.mark.parametrize(("loss", "formula"), FORMULAS, ids=[loss.__name__ for loss, _ in FORMULAS])


@by_loss
@given(pair=pairs)
def test_a_loss_is_its_formula_in_probabilities(
    loss: Loss, formula: Callable[[float, float], float], pair: Pair
) -> None:
    expected = mean([formula(real, fake) for real, fake in zip(*pair, strict=True)])
    # 1 - sigmoid(9) keeps 12 digits.
    assert loss(**tensors(pair)).item() == pytest.approx(expected, rel=1e-11, abs=1e-11)


# The derivative by each real and each fake logit, times the batch size.
GRADIENTS: list[tuple[Loss, Callable[[float, float], float], Callable[[float, float], float]]] = [
    (discriminator_loss, lambda r, f: -sigmoid(-r), lambda r, f: sigmoid(f)),
    (minimax_generator_loss, lambda r, f: 0.0, lambda r, f: -sigmoid(f)),
    (non_saturating_generator_loss, lambda r, f: 0.0, lambda r, f: -sigmoid(-f)),
    (relativistic_discriminator_loss, lambda r, f: -sigmoid(f - r), lambda r, f: sigmoid(f - r)),
    (relativistic_generator_loss, lambda r, f: sigmoid(r - f), lambda r, f: -sigmoid(r - f)),
]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("loss", "by_real", "by_fake"), GRADIENTS, ids=[loss.__name__ for loss, *_ in GRADIENTS])
def test_gradients_are_exact_and_alive_where_the_discriminator_is_certain(
    loss: Loss,
    by_real: Callable[[float, float], float],
    by_fake: Callable[[float, float], float],
    dtype: torch.dtype,
) -> None:
    points = [(30.0, -30.0), (-30.0, 30.0), (30.0, 30.0), (-30.0, -30.0), (0.0, -30.0), (0.5, 0.0)]
    real, fake = torch.tensor(points, dtype=dtype).unbind(dim=1)
    real.requires_grad_()
    fake.requires_grad_()
    loss(real_logits=real, fake_logits=fake).backward()
    for logits, derivative in ((real, by_real), (fake, by_fake)):
        expected = [derivative(*point) / len(points) for point in points]
        if not any(expected):
            assert logits.grad is None
            continue
        assert logits.grad is not None
        assert (logits.grad != 0).all()
        assert logits.grad.tolist() == pytest.approx(expected, rel=1e-6 if dtype == torch.float32 else 1e-9, abs=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_confident_rejection_stops_the_minimax_generator_and_drives_the_other(dtype: torch.dtype) -> None:
    slopes = {}
    for loss in (minimax_generator_loss, non_saturating_generator_loss):
        fake = torch.full((4,), -30.0, dtype=dtype, requires_grad=True)
        loss(real_logits=fake.detach(), fake_logits=fake).backward()
        assert fake.grad is not None
        slopes[loss] = fake.grad[0].item()
    assert slopes[minimax_generator_loss] == pytest.approx(-sigmoid(-30) / 4, rel=1e-6, abs=0)
    assert slopes[non_saturating_generator_loss] == pytest.approx(-sigmoid(30) / 4, rel=1e-6, abs=0)


@pytest.mark.parametrize("logit", [-1e4, -300.0, 300.0, 1e4])
@by_loss
def test_no_loss_overflows(loss: Loss, formula: object, logit: float) -> None:
    logits = torch.tensor([logit, -logit])
    assert loss(real_logits=logits, fake_logits=-logits).isfinite()


@pytest.mark.parametrize(
    ("loss", "value"),
    [
        (discriminator_loss, math.log(4)),
        (minimax_generator_loss, -math.log(2)),
        (non_saturating_generator_loss, math.log(2)),
        (relativistic_discriminator_loss, math.log(2)),
        (relativistic_generator_loss, math.log(2)),
    ],
)
def test_losses_at_the_equilibrium(loss: Loss, value: float) -> None:
    zeros = torch.zeros(3, dtype=torch.float64)
    assert loss(real_logits=zeros, fake_logits=zeros).item() == pytest.approx(value, rel=1e-15)


@pytest.mark.parametrize("loss", [relativistic_discriminator_loss, relativistic_generator_loss])
@given(pair=pairs, constant=st.floats(-100, 100))
def test_relativistic_losses_see_only_differences(loss: Loss, pair: Pair, constant: float) -> None:
    plain = tensors(pair)
    shifted = {name: logits + constant for name, logits in plain.items()}
    assert loss(**shifted).item() == pytest.approx(loss(**plain).item(), rel=1e-10, abs=1e-12)
    level = dict.fromkeys(plain, plain["real_logits"])
    assert loss(**level).item() == pytest.approx(math.log(2), rel=1e-15)


@given(pairs)
def test_the_relativistic_losses_exchange_roles(pair: Pair) -> None:
    exchanged = (pair[1], pair[0])
    assert torch.equal(
        relativistic_generator_loss(**tensors(pair)), relativistic_discriminator_loss(**tensors(exchanged))
    )


@given(pairs)
def test_the_minimax_game_is_zero_sum_in_the_fakes(pair: Pair) -> None:
    logits = tensors(pair)
    fake = logits["fake_logits"].requires_grad_()
    (d_loss := discriminator_loss(**logits)).backward()
    by_discriminator, fake.grad = fake.grad, None
    minimax_generator_loss(**logits).backward()
    assert d_loss.isfinite()
    assert by_discriminator is not None
    assert fake.grad is not None
    assert torch.equal(fake.grad, -by_discriminator)


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


@given(pairs)
def test_logits_of_d_are_those_that_the_objective_defines(pair: Pair) -> None:
    real, fake = pair
    paired = [r - mean(fake) for r in real], [f - mean(real) for f in fake]
    for name, expected in (("minimax", pair), ("non_saturating", pair), ("relativistic", paired)):
        defined = objective_logits(OBJECTIVES[name], **tensors(pair))
        for logits, wanted in zip(defined, expected, strict=True):
            assert logits.tolist() == pytest.approx(wanted, rel=1e-12, abs=1e-12)


@pytest.mark.parametrize("name", ["minimax", "non_saturating", "relativistic"])
def test_only_paired_objectives_read_real_logits_in_the_generators_loss(
    name: Literal["minimax", "non_saturating", "relativistic"],
) -> None:
    objective = OBJECTIVES[name]
    fake = torch.tensor([0.5, -1.0])
    there, elsewhere = (objective.generator(real_logits=fake + shift, fake_logits=fake) for shift in (0.0, 1.0))
    assert objective.paired == (not torch.equal(there, elsewhere))


@pytest.mark.parametrize(
    ("data", "generated"), [([8, 2], [3, 7]), ([5, 5], [5, 5]), ([1, 9], [9, 1]), ([2, 3, 5], [6, 3, 1])]
)
def test_the_optimal_discriminator_is_that_of_proposition_1(data: list[int], generated: list[int]) -> None:
    """Goodfellow et al. 2014: D* = p_data / (p_data + p_g) and V(D*, G) = -log 4 + 2 JSD (theorem 1)."""
    points = torch.arange(len(data))
    real, fake = (points.repeat_interleave(torch.tensor(counts)) for counts in (data, generated))
    logits = torch.zeros(len(data), dtype=torch.float64, requires_grad=True)
    for _ in range(600):
        loss = discriminator_loss(real_logits=logits[real], fake_logits=logits[fake])
        (gradient,) = torch.autograd.grad(loss, logits)
        with torch.no_grad():
            logits -= 2 * gradient

    p_data, p_g = ([count / sum(counts) for count in counts] for counts in (data, generated))
    optimum = [p / (p + q) for p, q in zip(p_data, p_g, strict=True)]
    assert logits.sigmoid().tolist() == pytest.approx(optimum, abs=1e-9)

    middle = [(p + q) / 2 for p, q in zip(p_data, p_g, strict=True)]
    divergences = [sum(p * math.log(p / m) for p, m in zip(side, middle, strict=True)) for side in (p_data, p_g)]
    jsd = sum(divergences) / 2
    assert loss.item() == pytest.approx(math.log(4) - 2 * jsd, abs=1e-12)
