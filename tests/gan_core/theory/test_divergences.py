import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.optimize import minimize_scalar
from torch import Tensor
from torch.nn.functional import logsigmoid

from gan_core.losses.adversarial import discriminator_loss, minimax_generator_loss, non_saturating_generator_loss
from gan_core.losses.value import jsd_estimate, value
from gan_core.theory.divergences import (
    criterion,
    jensen_shannon_divergence,
    kl_divergence,
    optimal_discriminator_prob,
)

Mixture = list[tuple[float, float, float]]
"""Weights, means and standard deviations of Gaussians on the line; the weights add up to 1."""
Pair = tuple[Tensor, Tensor]

gaussians = st.tuples(st.floats(-10, 10), st.floats(0.3, 3)).map(lambda drawn: [(1.0, *drawn)])
mixtures = st.tuples(st.floats(0, 1), gaussians, gaussians).map(
    lambda drawn: [(drawn[0], *drawn[1][0][1:]), (1 - drawn[0], *drawn[2][0][1:])]
)


def tensor(values: list[float]) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def probabilities(counts: list[int]) -> Tensor:
    return tensor([count / sum(counts) for count in counts])


def same_size(count: int) -> st.SearchStrategy[Pair]:
    side = st.lists(st.integers(0, 5), min_size=count, max_size=count).filter(any).map(probabilities)
    return st.tuples(side, side)


pairs = st.integers(1, 6).flatmap(same_size)
"""Probabilities of as many outcomes, some of them 0."""


def xlogy(x: float, y: float) -> float:
    return x * math.log(y) if x else 0.0


def log_density(mixture: Mixture, x: float) -> float:
    terms = [
        math.log(weight) - (x - mean) ** 2 / (2 * width**2) - math.log(width * math.sqrt(2 * math.pi))
        for weight, mean, width in mixture
        if weight
    ]
    return max(terms) + math.log(math.fsum(math.exp(term - max(terms)) for term in terms))


def integrated_jsd(p: Mixture, q: Mixture) -> float:
    """Return the divergence by adaptive quadrature, split where a component begins, peaks and ends."""

    def integrand(x: float) -> float:
        log_p, log_q = log_density(p, x), log_density(q, x)
        middle = max(log_p, log_q) + math.log1p(math.exp(-abs(log_p - log_q))) - math.log(2)
        return (math.exp(log_p) * (log_p - middle) + math.exp(log_q) * (log_q - middle)) / 2

    knots = sorted({mean + k * width for _, mean, width in p + q for k in (-12, -3, 0, 3, 12)})
    return float(quad(integrand, knots[0], knots[-1], points=knots[1:-1], epsabs=1e-10, epsrel=0, limit=500)[0])


def grid(*densities: Mixture, reach: float = 12, count: int = 8000) -> tuple[Tensor, float]:
    """Return midpoints of cells that reach so many standard deviations beyond each component, and a cell's length."""
    components = [component for density in densities for component in density]
    low = min(mean - reach * width for _, mean, width in components)
    high = max(mean + reach * width for _, mean, width in components)
    cell = (high - low) / count
    return low + cell * (torch.arange(count, dtype=torch.float64) + 0.5), cell


def density(x: Tensor, mean: Tensor | float, width: Tensor | float) -> Tensor:
    return torch.exp(-(((x - mean) / width) ** 2) / 2) / (width * math.sqrt(2 * math.pi))


def mixed(x: Tensor, mixture: Mixture) -> Tensor:
    return torch.stack([weight * density(x, mean, width) for weight, mean, width in mixture]).sum(dim=0)


def optimum(p_data: Tensor, p_g: Tensor) -> Pair:
    """Return D* and 1 - D*, each exact, also where the other rounds to 1."""
    return optimal_discriminator_prob(p_data=p_data, p_g=p_g), optimal_discriminator_prob(p_data=p_g, p_g=p_data)


def expected_value(p_data: Tensor, p_g: Tensor, discriminator: Pair) -> Tensor:
    """Return V(D, G) of equation 3 for probabilities of outcomes, from D and 1 - D."""
    return (torch.xlogy(p_data, discriminator[0]) + torch.xlogy(p_g, discriminator[1])).sum()


@settings(max_examples=200)
@given(p=gaussians | mixtures, q=gaussians | mixtures)
def test_the_optimal_value_and_the_criterion_are_those_of_the_divergence(p: Mixture, q: Mixture) -> None:
    """Theorem 1, by the integral of the divergence between densities on the line."""
    x, cell = grid(p, q)
    p_data, p_g = mixed(x, p) * cell, mixed(x, q) * cell
    expected = -math.log(4) + 2 * integrated_jsd(p, q)
    assert expected_value(p_data, p_g, optimum(p_data, p_g)).item() == pytest.approx(expected, abs=1e-9)
    assert criterion(p_data=p_data, p_g=p_g).item() == pytest.approx(expected, abs=1e-9)


# At these distances no density of the grid underflows to 0.
@given(mean=st.floats(-4, 4), p_width=st.floats(0.6, 2), q_width=st.floats(0.6, 2))
def test_the_divergence_of_gaussians_is_its_closed_form(mean: float, p_width: float, q_width: float) -> None:
    x, cell = grid([(1.0, 0.0, p_width)], reach=8)
    p, q = density(x, 0.0, p_width) * cell, density(x, mean, q_width) * cell
    kl = math.log(q_width / p_width) + (p_width**2 + mean**2) / (2 * q_width**2) - 0.5
    assert kl_divergence(p=p, q=q).item() == pytest.approx(kl, abs=1e-9)


def test_a_grid_may_have_any_shape() -> None:
    x, x_cell = grid([(1.0, 0.0, 1.0)], count=200)
    y, y_cell = grid([(1.0, 3.0, 2.0)], count=100)
    p, q, other = density(x, 0.0, 1.0) * x_cell, density(x, 1.0, 1.5) * x_cell, density(y, 3.0, 2.0) * y_cell
    for divergence in (kl_divergence, jensen_shannon_divergence):
        plane = divergence(p=torch.outer(p, other), q=torch.outer(q, other))
        assert plane.item() == pytest.approx(divergence(p=p, q=q).item(), rel=1e-9)


@given(pairs)
def test_zeros_are_exact(pair: Pair) -> None:
    p, q = pair
    columns = list(zip(p.tolist(), q.tolist(), strict=True))
    expected = math.inf
    if all(b > 0 or a == 0 for a, b in columns):
        expected = sum(xlogy(a, a) - xlogy(a, b) for a, b in columns)
    assert kl_divergence(p=p, q=q).item() == pytest.approx(expected, abs=1e-14)


@given(pairs)
def test_the_two_divergences_from_the_mixture_are_twice_the_jensen_shannon_divergence(pair: Pair) -> None:
    p, q = pair
    mixture = (p + q) / 2
    both = (kl_divergence(p=p, q=mixture) + kl_divergence(p=q, q=mixture)).item()
    assert jensen_shannon_divergence(p=p, q=q).item() == pytest.approx(both / 2, abs=1e-14)
    assert criterion(p_data=p, p_g=q).item() == pytest.approx(-math.log(4) + both, abs=1e-14)


@given(pairs)
def test_the_jensen_shannon_divergence_is_zero_only_between_equals(pair: Pair) -> None:
    """Pinsker: KL(p || m) >= 2 TV(p, m)^2 = TV(p, q)^2 / 2. Lin 1991, theorem 3: JSD <= TV log 2."""
    p, q = pair
    jsd = jensen_shannon_divergence(p=p, q=q).item()
    variation = (p - q).abs().sum().item() / 2
    assert variation**2 / 2 - 1e-14 <= jsd <= variation * math.log(2) + 1e-14
    assert jsd == pytest.approx(jensen_shannon_divergence(p=q, q=p).item(), abs=1e-15)
    assert (jsd > 1e-7) == (not torch.equal(p, q))
    assert jensen_shannon_divergence(p=p, q=p).item() == 0
    assert criterion(p_data=p, p_g=p).item() == -math.log(4)


@given(pairs)
def test_the_divergence_of_disjoint_supports_is_log_2(pair: Pair) -> None:
    p, q = torch.cat([pair[0], 0 * pair[1]]), torch.cat([0 * pair[0], pair[1]])
    assert jensen_shannon_divergence(p=p, q=q).item() == pytest.approx(math.log(2), rel=1e-14)
    assert criterion(p_data=p, p_g=q).item() == pytest.approx(0, abs=1e-14)
    assert expected_value(p, q, optimum(p, q)).item() == 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_smallest_density_has_a_finite_divergence(dtype: torch.dtype) -> None:
    smallest = torch.finfo(dtype).smallest_normal * torch.finfo(dtype).eps
    p, q = torch.tensor([smallest, 1], dtype=dtype), torch.tensor([0, 1], dtype=dtype)
    assert p[0] > 0
    assert jensen_shannon_divergence(p=p, q=q).item() == pytest.approx(0, abs=1e-30)


weights = st.floats(1e-3, 10)


@given(a=weights, b=weights)
def test_no_answer_of_the_discriminator_beats_that_of_proposition_1(a: float, b: float) -> None:
    minimum = minimize_scalar(
        lambda y: -(a * math.log(y) + b * math.log(1 - y)), bounds=(0, 1), method="bounded", options={"xatol": 1e-10}
    )
    p_data, p_g = tensor([a]), tensor([b])
    best = optimum(p_data, p_g)
    # Near its maximum the integrand is flat: in float64 the place is known to the root of the precision.
    assert best[0].item() == pytest.approx(minimum.x, abs=1e-6)
    assert expected_value(p_data, p_g, best).item() == pytest.approx(-minimum.fun, rel=1e-9)


@given(pair=pairs, drawn=st.lists(st.floats(-9, 9), min_size=6, max_size=6))
def test_any_other_discriminator_loses_what_it_differs_from_the_optimum(pair: Pair, drawn: list[float]) -> None:
    """V(D*, G) - V(D, G) = sum (p_data + p_g) KL(D* || D), of coins that show heads with these probabilities."""
    p_data, p_g = pair
    logits = tensor(drawn[: len(p_data)])
    probs, best = (logits.sigmoid(), (-logits).sigmoid()), optimum(p_data, p_g)
    value, maximum = (expected_value(p_data, p_g, each).item() for each in (probs, best))
    losses = [
        total * (xlogy(heads, heads / prob) + xlogy(1 - heads, (1 - heads) / (1 - prob)))
        for total, heads, prob in zip((p_data + p_g).tolist(), best[0].tolist(), probs[0].tolist(), strict=True)
    ]
    assert maximum - value == pytest.approx(sum(losses), abs=1e-11)
    missed = ((p_data + p_g) * (probs[0] - best[0]) ** 2).sum().item()
    assume(missed > 1e-9)
    assert value < maximum - missed


def test_the_discriminator_of_points_where_a_density_is_zero() -> None:
    p_data, p_g = tensor([0.5, 0.0, 0.0, 0.5]), tensor([0.0, 0.5, 0.0, 0.5])
    assert optimal_discriminator_prob(p_data=p_data, p_g=p_g).tolist() == [1, 0, 0.5, 0.5]


@pytest.mark.parametrize("logit", [0.0, 1.0, 25.0, 40.0, 700.0])
def test_values_are_exact_where_the_discriminator_is_certain(logit: float) -> None:
    sure = torch.full((3,), logit, dtype=torch.float64)
    right, wrong = -math.log1p(math.exp(-logit)), -logit - math.log1p(math.exp(-logit))
    for real, fake, expected in ((1, -1, 2 * right), (-1, 1, 2 * wrong), (1, 1, right + wrong)):
        measured = value(real_logits=real * sure, fake_logits=fake * sure).item()
        assert measured == pytest.approx(expected, rel=1e-14, abs=0)


@given(st.lists(st.floats(-50, 50), min_size=1, max_size=4), st.lists(st.floats(-50, 50), min_size=1, max_size=4))
def test_the_discriminator_minimises_the_negative_value(real: list[float], fake: list[float]) -> None:
    logits = {"real_logits": tensor(real), "fake_logits": tensor(fake)}
    # Softplus of 20 and more drops exp(-20).
    assert value(**logits).item() == pytest.approx(-discriminator_loss(**logits).item(), abs=3 * math.exp(-20))


def test_the_estimate_converges_to_the_divergence() -> None:
    x, cell = grid([(1.0, 0.0, 1.0)], [(1.0, 1.0, 1.5)])
    jsd = jensen_shannon_divergence(p=density(x, 0.0, 1.0) * cell, q=density(x, 1.0, 1.5) * cell).item()
    rng = torch.Generator().manual_seed(0)
    real = torch.randn(40_000, generator=rng, dtype=torch.float64)
    fake = 1.0 + 1.5 * torch.randn(90_000, generator=rng, dtype=torch.float64)
    real_logits, fake_logits = (density(part, 0.0, 1.0).log() - density(part, 1.0, 1.5).log() for part in (real, fake))
    terms = logsigmoid(real_logits) / 2, logsigmoid(-fake_logits) / 2
    error = math.sqrt(sum(term.var().item() / len(term) for term in terms))
    assert 0 < error < 0.01
    estimate = jsd_estimate(value(real_logits=real_logits, fake_logits=fake_logits)).item()
    assert estimate == pytest.approx(jsd, abs=3 * error)


@given(pair=pairs, drawn=st.lists(st.floats(-3, 3), min_size=6, max_size=6))
def test_the_estimate_of_the_divergence_is_a_lower_bound_that_the_optimum_attains(
    pair: Pair, drawn: list[float]
) -> None:
    p_data, p_g = pair
    jsd = jensen_shannon_divergence(p=p_data, q=p_g).item()
    logits = tensor(drawn[: len(p_data)])
    probs = logits.sigmoid(), (-logits).sigmoid()
    bound, attained = (jsd_estimate(expected_value(p_data, p_g, each)).item() for each in (probs, optimum(p_data, p_g)))
    assert 0 <= bound <= jsd + 1e-14
    assert attained == pytest.approx(jsd, abs=1e-14)


def test_the_estimate_of_the_divergence_is_clipped_to_its_range() -> None:
    values = tensor([-9.0, -math.log(4), -1.0, 0.0, 0.1])
    expected = [0.0, 0.0, math.log(2) - 0.5, math.log(2), math.log(2)]
    assert jsd_estimate(values).tolist() == pytest.approx(expected, abs=1e-15)


EQUAL_MASSES = torch.special.ndtri((torch.arange(2000, dtype=torch.float64) + 0.5) / 2000)
"""Quantiles of the standard normal: an expectation over z is their mean."""


def generator_gradient(loss: Callable[..., Tensor], mean: float, width: float) -> Tensor:
    """Return the loss's gradient by mean and width of the generator N(mean, width), given D* for N(0, 1)."""
    parameters = tensor([mean, width]).requires_grad_()
    fake = parameters[0] + parameters[1] * EQUAL_MASSES
    logits = ((fake - mean) / width) ** 2 / 2 + math.log(width) - fake**2 / 2
    (gradient,) = torch.autograd.grad(loss(real_logits=logits.detach(), fake_logits=logits), parameters)
    return gradient


@pytest.mark.parametrize("loss", [minimax_generator_loss, non_saturating_generator_loss])
def test_both_generator_losses_rest_where_the_generator_is_the_data(loss: Callable[..., Tensor]) -> None:
    assert generator_gradient(loss, 0.0, 1.0).tolist() == [0, 0]
    # Elsewhere each leads back: a step against the gradient approaches mean 0 and width 1.
    for mean in (-3.0, -0.1, 0.1, 3.0):
        assert generator_gradient(loss, mean, 1.0)[0].item() * mean > 1e-3
    for width in (0.5, 0.9, 1.1, 2.0):
        assert generator_gradient(loss, 0.0, width)[1].item() * (width - 1) > 1e-3


@given(st.floats(-12, 12))
def test_away_from_the_data_the_gradients_share_what_the_discriminator_says(mean: float) -> None:
    """Of equal widths D* has the logit mean^2 / 2 - mean x, so the slopes by mean are mean E D and mean E (1 - D)."""
    fooled = torch.sigmoid(mean**2 / 2 - mean * (mean + EQUAL_MASSES)).mean().item()
    minimax, non_saturating = (
        generator_gradient(loss, mean, 1.0)[0].item()
        for loss in (minimax_generator_loss, non_saturating_generator_loss)
    )
    assert minimax == pytest.approx(mean * fooled, rel=1e-9, abs=1e-12)
    assert non_saturating == pytest.approx(mean * (1 - fooled), rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("logit", [-30.0, -5.0, 0.0, 5.0])
def test_the_gradients_differ_by_the_odds_of_rejection(logit: float) -> None:
    """Goodfellow et al. 2014, section 3: where D rejects G(z) with confidence, log(1 - D(G(z))) saturates."""
    slopes = []
    for loss in (minimax_generator_loss, non_saturating_generator_loss):
        fake_logits = tensor([logit]).requires_grad_()
        loss(real_logits=tensor([0.0]), fake_logits=fake_logits).backward()
        assert fake_logits.grad is not None
        slopes.append(fake_logits.grad.item())
    prob = 1 / (1 + math.exp(-logit))
    assert slopes == pytest.approx([-prob, prob - 1], rel=1e-12, abs=0)
    assert slopes[1] / slopes[0] == pytest.approx((1 - prob) / prob, rel=1e-12)


@pytest.mark.parametrize(("mean", "width"), [(0.0, 1.0), (0.0, 1.5), (0.5, 1.0), (-3.0, 1.5), (2.0, 0.7)])
def test_the_minimax_generator_descends_the_criterion(mean: float, width: float) -> None:
    """With D at its optimum and held there, the gradient of V(D, G) is that of C(G) = max over D of V(D, G)."""
    x, cell = grid([(1.0, 0.0, 1.0)], [(1.0, mean, width)])
    parameters = tensor([mean, width]).requires_grad_()
    p_data, p_g = density(x, 0.0, 1.0) * cell, density(x, *parameters) * cell
    best = optimum(p_data, p_g.detach())
    (of_criterion,) = torch.autograd.grad(criterion(p_data=p_data, p_g=p_g), parameters, retain_graph=True)
    (of_value,) = torch.autograd.grad(expected_value(p_data, p_g, best), parameters)
    assert of_value.tolist() == pytest.approx(of_criterion.tolist(), abs=1e-13)
    # 2,000 quantiles for the integral over z.
    sampled = generator_gradient(minimax_generator_loss, mean, width)
    assert sampled.tolist() == pytest.approx(of_criterion.tolist(), abs=5e-4)


GOOD, NEGATIVE, BROKEN, LONG = tensor([0.5, 0.5]), tensor([-0.5, 1.5]), tensor([math.nan, 1]), tensor([0.5, 0.5, 0])


@pytest.mark.parametrize(
    ("p", "q"), [(NEGATIVE, GOOD), (GOOD, NEGATIVE), (GOOD, BROKEN), (GOOD, GOOD * math.inf), (GOOD, LONG)]
)
def test_what_is_no_distribution_is_refused(p: Tensor, q: Tensor) -> None:
    for divergence in (kl_divergence, jensen_shannon_divergence):
        with pytest.raises(ValueError, match=r"distributions|probabilities"):
            divergence(p=p, q=q)
    for function in (criterion, optimal_discriminator_prob):
        with pytest.raises(ValueError, match=r"distributions|probabilities"):
            function(p_data=p, p_g=q)
