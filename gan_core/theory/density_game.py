"""Where a game on a known density stands: p_g, D, the D* that theory demands, and the generators' gradients."""

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
"""Points that go through a network at once: what fits into the processor's cache is several times as fast."""


@dataclass(frozen=True)
class Standing:
    """One generator against one discriminator on the line; densities and probabilities at the midpoints of K cells."""

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


@torch.no_grad()
def generated(generator: nn.Module, network: NetworkConfig, count: int, seed: int) -> Tensor:
    """Return `count` points (count, D) of a generator, from latents that `seed` names."""
    return through(generator, draw_z(network, count, stream(seed, "measured z")))


@torch.no_grad()
def through(network: nn.Module, inputs: Tensor) -> Tensor:
    """Return a network's outputs for inputs of any number, a chunk at a time."""
    return torch.cat([network(chunk) for chunk in inputs.split(CHUNK)])


def standing(
    density: Density,
    discriminator: nn.Module,
    generator: nn.Module,
    network: NetworkConfig,
    *,
    cells: int,
    count: int,
    seed: int,
) -> Standing:
    """Return how p_g and D of two players compare with p_data and with D*, the best answer to this very p_g.

    p_g is a histogram of `count` samples. Chance in it lifts the JSD by about `cells` / (8 `count`) (the expectation
    of the sum of squared deviations over 8 p), and adds to |D - D*| up to sqrt(`cells` / `count`) / 5, where D is
    right; what p_g does within a cell is not seen. All that lies outside [-L, L] is one cell more for the JSD.

    Args:
        density: on the line.
        discriminator: maps points (B, 1) to logits (B,).
        generator: maps z (B, Z) to points (B, 1).
        network: read for the latent space.
        cells: K, of the interval [-L, L].
        count: samples of p_data, which D has not seen, and of p_g.
        seed: of both.

    Returns:
        Densities in 1/x; `jsd` in nats; `bound` = -log 4 + 2 JSD, the V of D*, which no D exceeds; `d_error`, the
        mean of |D - D*| under (p_data + p_g) / 2; `value`, V(D, G) in nats, with its standard error.
    """
    edge = density.half_width
    cell = 2 * edge / cells
    x = (torch.arange(cells, dtype=torch.float64) + 0.5) * cell - edge
    fake = generated(generator, network, count, seed)
    data_mass = density.log_density(x.unsqueeze(1)).exp() * cell
    fake_mass = torch.histc(fake.double(), cells, -edge, edge) / count
    d_prob = through(discriminator, x.float().unsqueeze(1)).double().sigmoid()
    d_star_prob = optimal_discriminator_prob(p_data=data_mass, p_g=fake_mass)

    real = density.sample(count, stream(seed, "measured real"))
    logits = {"real": through(discriminator, real).double(), "fake": through(discriminator, fake).double()}
    terms = logsigmoid(logits["real"]), logsigmoid(-logits["fake"])
    all_data, all_fake = _with_rest(data_mass), _with_rest(fake_mass)
    return Standing(
        x=x,
        p_data=data_mass / cell,
        p_g=fake_mass / cell,
        d_prob=d_prob,
        d_star_prob=d_star_prob,
        jsd=jensen_shannon_divergence(p=all_data, q=all_fake, cell=1).item(),
        bound=criterion(p_data=all_data, p_g=all_fake, cell=1).item(),
        d_error=((d_prob - d_star_prob).abs() * (data_mass + fake_mass) / 2).sum().item(),
        value=value(real_logits=logits["real"], fake_logits=logits["fake"]).item(),
        value_standard_error=math.sqrt(sum(term.var().item() for term in terms) / count),
    )


def _with_rest(mass: Tensor) -> Tensor:
    return torch.cat([mass, (1 - mass.sum()).clamp(min=0).unsqueeze(0)])


@dataclass(frozen=True)
class Gradients:
    """What a generator that D rejects is told, by each of the paper's two losses.

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
    """Train D alone against a fixed poor generator and read what this generator would learn from it.

    The generator is an untrained one whose output is moved by `shift`, away from the data: the start of learning of
    which Goodfellow et al. 2014 say in section 3 that log(1 - D(G(z))) saturates.

    Args:
        config: of the discriminator's steps, at a constant learning rate.
        network: both players.
        density: on the line.
        shift: along the line, in x.
        steps: of the discriminator.
        every: steps between two readings; the first comes before the first step.

    Yields:
        Readings.
    """
    config = replace(config, loss="non_saturating", r1_gamma=0.0, r2_gamma=0.0)
    discriminator, generator = build_players(network, dimensions=1, octaves=0, seed=config.seed)
    with torch.no_grad():
        generator.points.bias.fill_(shift)
    state = state_of(config, network, discriminator, generator)
    batches = Batches(config, network, density.sample(CHUNK, stream(config.seed, "points")))
    z = draw_z(network, CHUNK, stream(config.seed, "gradient z"))
    for step in range(steps + 1):
        if step % every == 0:
            yield _gradients(state, z, step)
        discriminator_step(config, state, batches.discriminator(step + 1, 0))


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
