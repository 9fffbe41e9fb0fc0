import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy.stats import wasserstein_distance
from torch import Tensor

from gan_core.losses.adversarial import (
    OBJECTIVES,
    critic_generator_loss,
    discriminator_loss,
    hinge_discriminator_loss,
    least_squares_discriminator_loss,
    least_squares_generator_loss,
    minimax_generator_loss,
    non_saturating_generator_loss,
    objective_logits,
    relativistic_discriminator_loss,
    relativistic_generator_loss,
    wasserstein_discriminator_loss,
)

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
    (least_squares_discriminator_loss, lambda r, f: ((r - 1) ** 2 + (f + 1) ** 2) / 2),
    (least_squares_generator_loss, lambda r, f: f**2 / 2),
    (hinge_discriminator_loss, lambda r, f: max(0.0, 1 - r) + max(0.0, 1 + f)),
    (wasserstein_discriminator_loss, lambda r, f: f - r),
    (critic_generator_loss, lambda r, f: -f),
]
by_loss = pytest.mark.parametrize(("loss", "formula"), FORMULAS, ids=[loss.__name__ for loss, _ in FORMULAS])


@by_loss
@given(pair=pairs)
def test_a_loss_is_its_formula(loss: Loss, formula: Callable[[float, float], float], pair: Pair) -> None:
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
        (least_squares_discriminator_loss, 1.0),
        (least_squares_generator_loss, 0.0),
        (hinge_discriminator_loss, 2.0),
        (wasserstein_discriminator_loss, 0.0),
        (critic_generator_loss, 0.0),
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


@by_loss
@given(pair=pairs)
def test_gradients_are_those_of_finite_differences(loss: Loss, formula: object, pair: Pair) -> None:
    if loss == hinge_discriminator_loss:
        assume(all(abs(abs(logit) - 1) > 1e-3 for logit in (*pair[0], *pair[1])))  # its kinks
    logits = {name: logits.requires_grad_() for name, logits in tensors(pair).items()}
    assert torch.autograd.gradcheck(lambda real, fake: loss(real_logits=real, fake_logits=fake), (*logits.values(),))


@given(pairs)
def test_logits_of_d_are_those_that_the_objective_defines(pair: Pair) -> None:
    real, fake = pair
    votes = tuple([math.log(d / (1 - d)) for d in (min(max((1 + c) / 2, 0.005), 0.995) for c in side)] for side in pair)
    paired = [r - mean(fake) for r in real], [f - mean(real) for f in fake]
    defined = {"minimax": pair, "non_saturating": pair, "relativistic": paired, "least_squares": votes, "hinge": votes}
    for name, expected in defined.items():
        for logits, wanted in zip(objective_logits(OBJECTIVES[name], **tensors(pair)), expected, strict=True):
            assert logits.tolist() == pytest.approx(wanted, rel=1e-9, abs=1e-9)


@given(pair=pairs, scale=st.floats(0.1, 100), constant=st.floats(-100, 100))
def test_a_critic_is_read_up_to_a_constant_and_a_scale(pair: Pair, scale: float, constant: float) -> None:
    plain = tensors(pair)
    spreads = [logits.var(correction=0).item() for logits in plain.values()]
    assume(sum(spreads) > 1e-6)
    wasserstein = OBJECTIVES["wasserstein"]
    read = objective_logits(wasserstein, **plain)
    again = objective_logits(wasserstein, **{name: scale * logits + constant for name, logits in plain.items()})
    for logits, others in zip(read, again, strict=True):
        assert torch.allclose(logits, others, rtol=1e-5, atol=1e-5)
    gap = mean(pair[0]) - mean(pair[1])
    assert read[0].mean().item() == pytest.approx(gap / (mean(spreads)) ** 0.5, rel=1e-9, abs=1e-9)


def test_a_critic_that_gives_one_number_to_a_kind_is_read_as_it_is() -> None:
    real, fake = objective_logits(OBJECTIVES["wasserstein"], **tensors(([2.0, 2.0], [-1.0, -1.0])))
    assert (real.tolist(), fake.tolist()) == ([3.0, 3.0], [-3.0, -3.0])


@pytest.mark.parametrize("name", OBJECTIVES)
def test_an_objective_reads_what_it_says(name: str) -> None:
    """Whether the generator's loss reads real logits, and whether a constant added to all changes a gradient."""
    objective, real = OBJECTIVES[name], torch.tensor([1.5, -0.3])
    fake = torch.tensor([0.5, -1.0], requires_grad=True)
    there, elsewhere = (objective.generator(real_logits=fake + shift, fake_logits=fake) for shift in (0.0, 1.0))
    assert objective.paired == (not torch.equal(there, elsewhere))
    slopes = [
        torch.autograd.grad(loss(real_logits=real + shift, fake_logits=fake + shift), fake)[0]
        for loss in (objective.discriminator, objective.generator)
        for shift in (0.0, 0.25)
    ]
    same = torch.allclose(slopes[0], slopes[1]) and torch.allclose(slopes[2], slopes[3])
    assert same == (objective.output in ("relative", "critic"))


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


DISCRETE = pytest.mark.parametrize(
    ("p", "q"), [([0.8, 0.2], [0.3, 0.7]), ([0.5, 0.5], [0.5, 0.5]), ([0.2, 0.3, 0.5], [0.6, 0.3, 0.1])]
)


def weighted(loss: Loss, outputs: Tensor, p: list[float], q: list[float]) -> Tensor:
    """Return the loss of a discriminator with these outputs at points of probabilities p, real, and q, generated."""
    counts = [torch.tensor([round(10 * share) for share in shares]) for shares in (p, q)]
    real, fake = (outputs.repeat_interleave(count) for count in counts)
    return loss(real_logits=real, fake_logits=fake)


@DISCRETE
def test_the_optimum_of_least_squares_is_pearsons_chi_squared(p: list[float], q: list[float]) -> None:
    outputs = torch.tensor([(a - b) / (a + b) for a, b in zip(p, q, strict=True)], dtype=torch.float64)
    outputs.requires_grad_()
    (slope,) = torch.autograd.grad(weighted(least_squares_discriminator_loss, outputs, p, q), outputs)
    assert slope.tolist() == pytest.approx([0.0] * len(p), abs=1e-12)
    d_prob = objective_logits(OBJECTIVES["least_squares"], real_logits=outputs, fake_logits=outputs)[0].sigmoid()
    assert d_prob.tolist() == pytest.approx([a / (a + b) for a, b in zip(p, q, strict=True)])
    of_fake = weighted(least_squares_generator_loss, outputs, p, q) + weighted(
        least_squares_generator_loss, outputs, q, p
    )
    middle = [(a + b) / 2 for a, b in zip(p, q, strict=True)]
    assert of_fake.item() == pytest.approx(sum((b - m) ** 2 / m for b, m in zip(q, middle, strict=True)), abs=1e-12)


@DISCRETE
def test_the_optimum_of_the_hinge_is_the_total_variation(p: list[float], q: list[float]) -> None:
    sides = [float(a > b) - float(a < b) for a, b in zip(p, q, strict=True)]
    best = weighted(hinge_discriminator_loss, torch.tensor(sides), p, q).item()
    assert best == pytest.approx(2 - sum(abs(a - b) for a, b in zip(p, q, strict=True)), rel=1e-6)
    rng = torch.Generator().manual_seed(0)
    for _ in range(200):
        others = 3 * torch.randn(len(p), generator=rng)
        assert weighted(hinge_discriminator_loss, others, p, q).item() >= best - 1e-6


@DISCRETE
def test_the_optimum_of_the_wasserstein_loss_is_the_distance(p: list[float], q: list[float]) -> None:
    """Points on a line, one apart: the critic of slope at most 1 climbs wherever mass has to come from above."""
    behind = [sum(q[: i + 1]) - sum(p[: i + 1]) for i in range(len(p) - 1)]
    outputs = torch.tensor([0.0, *(math.copysign(1, mass) for mass in behind)], dtype=torch.float64).cumsum(0)
    places = list(range(len(p)))
    distance = wasserstein_distance(places, places, p, q)
    assert -weighted(wasserstein_discriminator_loss, outputs, p, q).item() == pytest.approx(distance, abs=1e-12)
    assert -weighted(wasserstein_discriminator_loss, -outputs, p, q).item() == pytest.approx(-distance, abs=1e-12)
