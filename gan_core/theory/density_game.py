"""GAN training on a known density: p_g and D beside p_data and D*, and the gradients of the generator losses."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn.functional import logsigmoid

from gan_core.config import NetworkConfig, TrainConfig
from gan_core.generation.latents import draw_z
from gan_core.losses.adversarial import OBJECTIVES
from gan_core.losses.value import value
from gan_core.runtime.randomness import stream
from gan_core.theory.densities import Density
from gan_core.theory.divergences import criterion, jensen_shannon_divergence, optimal_discriminator_prob
from gan_core.theory.point_networks import build_players
from gan_core.training.batches import Batches
from gan_core.training.state import TrainState, state_of
from gan_core.training.steps import discriminator_step

CHUNK = 16384
"""Points that pass through a network at once: what fits into the processor's cache is several times as fast."""


@dataclass(frozen=True)
class Snapshot:
    """A generator and a discriminator on the line, with densities and probabilities at the midpoints of K cells.

    `x` (K,), `p_data` and `p_g` (K,) in 1/x, `d_prob` and `d_star_prob` (K,): D and D*, the optimal discriminator for
    this p_g. `jsd` in nats; `bound` = -log 4 + 2 JSD, the V of D*, which no D exceeds; `d_error`, the mean of |D - D*|
    under (p_data + p_g) / 2; `value`, V(D, G) in nats, with its standard error.
    """

    x: Tensor
    p_data: Tensor
    p_g: Tensor
    d_prob: Tensor
    d_star_prob: Tensor
    jsd: float
    bound: float
    d_error: float
    value: float
    value_standard_error: float


def generated_points(generator: nn.Module, network: NetworkConfig, count: int, seed: int) -> Tensor:
    """Return `count` points (count, D) of a generator, from latents that `seed` names."""
    return in_chunks(generator, draw_z(network, count, stream(seed, "measured z")))


@torch.no_grad()
def in_chunks(network: nn.Module, inputs: Tensor) -> Tensor:
    """Return a network's outputs for any number of inputs, computed `CHUNK` at a time."""
    return torch.cat([network(chunk) for chunk in inputs.split(CHUNK)])


def snapshot(
    density: Density,
    discriminator: nn.Module,
    generator: nn.Module,
    network: NetworkConfig,
    *,
    cells: int,
    count: int,
    seed: int,
) -> Snapshot:
    """Return how p_g and D compare with p_data and D*.

    p_g is a histogram of `count` samples, and all outside [-L, L] is one more cell for the JSD. Sampling noise raises
    the JSD by about `cells` / (8 `count`) (the expectation of the sum of squared deviations over 8 p), and |D - D*| of
    an optimal D by up to sqrt(`cells` / `count`) / 5.

    Args:
        density: on the line.
        discriminator: maps points (B, 1) to logits (B,).
        generator: maps z (B, Z) to points (B, 1).
        network: read for the latent space.
        cells: K, of the interval [-L, L].
        count: samples of p_data, on which D was not trained, and of p_g.
        seed: of these samples.

    Returns:
        Curves and figures.
    """
    edge, cell = density.half_width, 2 * density.half_width / cells
    x = (torch.arange(cells, dtype=torch.float64) + 0.5) * cell - edge
    real = density.sample(count, stream(seed, "measured real"))
    fake = generated_points(generator, network, count, seed)
    data_mass = density.log_density(x.unsqueeze(1)).exp() * cell
    fake_mass = torch.histc(fake.double(), cells, -edge, edge) / count
    d_prob = in_chunks(discriminator, x.float().unsqueeze(1)).double().sigmoid()
    d_star_prob = optimal_discriminator_prob(p_data=data_mass, p_g=fake_mass)
    real_logits, fake_logits = (in_chunks(discriminator, points).double() for points in (real, fake))
    all_data, all_fake = _with_rest(data_mass), _with_rest(fake_mass)
    return Snapshot(
        x=x,
        p_data=data_mass / cell,
        p_g=fake_mass / cell,
        d_prob=d_prob,
        d_star_prob=d_star_prob,
        jsd=jensen_shannon_divergence(p=all_data, q=all_fake).item(),
        bound=criterion(p_data=all_data, p_g=all_fake).item(),
        d_error=((d_prob - d_star_prob).abs() * (data_mass + fake_mass) / 2).sum().item(),
        value=value(real_logits=real_logits, fake_logits=fake_logits).item(),
        value_standard_error=math.sqrt((logsigmoid(real_logits).var() + logsigmoid(-fake_logits).var()).item() / count),
    )


def _with_rest(mass: Tensor) -> Tensor:
    """Return masses (K,) with what they lack of 1 as one more, (K + 1,)."""
    return torch.cat([mass, (1 - mass.sum()).clamp(min=0).unsqueeze(0)])


@dataclass(frozen=True)
class Gradients:
    """The gradients that each of the paper's two losses passes to a generator which D rejects.

    `by_logit` are means of |d loss / d logit| over the batch's samples, `by_weights` are norms over all weights; both
    by the name of the loss. `fake_prob` is the mean of D(G(z)).
    """

    step: int
    fake_prob: float
    by_logit: dict[str, float]
    by_weights: dict[str, float]


def gradients_as_confidence_grows(
    config: TrainConfig, network: NetworkConfig, density: Density, *, shift: float, steps: int, every: int
) -> Iterator[Gradients]:
    """Train D alone against a fixed poor generator and yield the gradients that this generator would get.

    The generator is an untrained one whose output is moved by `shift`, away from the data: the early stage of training
    at which log(1 - D(G(z))) saturates (Goodfellow et al. 2014, section 3).

    Args:
        config: of the discriminator's steps, at a constant learning rate.
        network: of both players.
        density: on the line.
        shift: along the line, in x.
        steps: of the discriminator.
        every: steps between two measurements; the first comes before the first step.

    Yields:
        Gradients, every `every` steps.
    """
    config = replace(config, loss="non_saturating", r1_gamma=0.0, r2_gamma=0.0)
    discriminator, generator = build_players(network, dimensions=1, octaves=0, seed=config.seed)
    with torch.no_grad():
        generator.points.bias.fill_(shift)
    state = state_of(config, network, discriminator, generator)
    batches = Batches(state, density.sample(CHUNK, stream(config.seed, "points")))
    z = draw_z(network, CHUNK, stream(config.seed, "gradient z"))
    for step in range(steps + 1):
        if step % every == 0:
            yield _gradients(state, z, step)
        discriminator_step(state, batches.discriminator(step + 1, 0))


def _gradients(state: TrainState, z: Tensor, step: int) -> Gradients:
    by_logit, by_weights = {}, {}
    weights = list(state.generator.parameters())
    fake_logits = state.discriminator(state.generator(z))
    for name in ("minimax", "non_saturating"):
        loss = OBJECTIVES[name].generator(real_logits=fake_logits.detach(), fake_logits=fake_logits)
        of_logits, *of_weights = torch.autograd.grad(loss, [fake_logits, *weights], retain_graph=True)
        by_logit[name] = of_logits.abs().sum().item()
        by_weights[name] = torch.cat([gradient.flatten() for gradient in of_weights]).norm().item()
    return Gradients(step, fake_logits.sigmoid().mean().item(), by_logit, by_weights)
