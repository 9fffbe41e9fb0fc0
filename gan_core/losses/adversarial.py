r"""The losses of the discriminator and the generator on logits, each to be minimised.

All take the discriminator's outputs for real and for generated images, `real_logits` and `fake_logits`, (B,) each,
paired by position for the relativistic losses, and return a scalar, the mean over the batch: in nats for the losses of
the paper and the relativistic ones, else in units of their own.

With D(x) = sigmoid(logit), -log D = softplus(-logit) and -log(1 - D) = softplus(logit). Softplus is exact where D
rounds to 0 or 1 and keeps its gradient there, which log(sigmoid(.)) does not. The least squares and the hinge loss read
an output as a vote, real at 1 and generated at -1; the Wasserstein loss knows no scale.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import relu, softplus


def discriminator_loss(*, real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """Return -V(D, G) = -E log D(x) - E log(1 - D(G(z))): Goodfellow et al. 2014, equation 1; log 4 if D = 1/2."""
    return softplus(-real_logits).mean() + softplus(fake_logits).mean()


def minimax_generator_loss(*, real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """Return E log(1 - D(G(z))), at most 0: Goodfellow et al. 2014, equation 1. Saturates where D rejects G(z)."""
    return -softplus(fake_logits).mean()


def non_saturating_generator_loss(*, real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """Return -E log D(G(z)): Goodfellow et al. 2014, section 3. Same fixed point, strong gradient early in learning."""
    return softplus(-fake_logits).mean()


def relativistic_discriminator_loss(*, real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """Return E softplus(D(G(z)) - D(x)) over pairs, D being logits: Jolicoeur-Martineau 2018; Huang et al. 2024, eq. 2.

    The discriminator decides which of two images is the real one, so each fake is compared with a real image instead of
    with a fixed threshold; with R1 and R2 training converges locally and covers modes.

    Args:
        real_logits: (B,), logits of real images.
        fake_logits: (B,), logits of generated images, paired with the real ones by position.

    Returns:
        A scalar in nats; log 2 if D cannot distinguish the two.
    """
    return softplus(fake_logits - real_logits).mean()


def relativistic_generator_loss(*, real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """Return E softplus(D(x) - D(G(z))): the discriminator's relativistic loss with the roles exchanged."""
    return softplus(real_logits - fake_logits).mean()


def least_squares_discriminator_loss(*, real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """Return E (C(x) - 1)^2 / 2 + E (C(G(z)) + 1)^2 / 2: Mao et al. 2017, arXiv:1611.04076, equation 2, a = -1, b = 1.

    Its optimum is C* = (p_data - p_g) / (p_data + p_g), so (1 + C*) / 2 is the D* of Goodfellow et al. 2014; at
    p_g = p_data it is 0 and the loss 1.
    """
    return (real_logits - 1).square().mean() / 2 + (fake_logits + 1).square().mean() / 2


def least_squares_generator_loss(*, real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """Return E C(G(z))^2 / 2: Mao et al. 2017, equation 2 with c = 0, at which the discriminator is undecided.

    With C*, and with the same of real images, which the generator cannot change, it is Pearson's chi-squared of p_g and
    m = (p_data + p_g) / 2, the integral of (p_g - m)^2 / m (equation 8): 0 at p_g = p_data.
    """
    return fake_logits.square().mean() / 2


def hinge_discriminator_loss(*, real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """Return E max(0, 1 - C(x)) + E max(0, 1 + C(G(z))): Lim and Ye 2017, arXiv:1705.02894; Miyato et al. 2018, eq. 16.

    Its optimum is the sign of p_data - p_g, with which it is 2 less twice their total variation; at p_g = p_data every
    C within [-1, 1] has the loss 2. Images outside of the margin pass on no gradient.
    """
    return relu(1 - real_logits).mean() + relu(1 + fake_logits).mean()


def wasserstein_discriminator_loss(*, real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """Return E C(G(z)) - E C(x): Arjovsky et al. 2017, arXiv:1701.07875, equation 2, to be minimised.

    Among critics C of slope at most 1, which a penalty has to see to, its minimum is less the Wasserstein-1 distance
    of p_data and p_g, in units of pixels: 0 at p_g = p_data. Any constant may be added to C.
    """
    return fake_logits.mean() - real_logits.mean()


def critic_generator_loss(*, real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """Return -E C(G(z)), for hinge and Wasserstein discriminators alike; its gradient never saturates."""
    return -fake_logits.mean()


@dataclass(frozen=True)
class Objective:
    """What each network minimises, and what the discriminator's outputs mean.

    If `paired`, the generator's loss reads those of real images too. `output` is "logit" of the probability D, "vote"
    between -1 and 1, "relative", a logit up to a constant, or "critic", up to a constant and a scale.
    """

    discriminator: Callable[..., Tensor]
    generator: Callable[..., Tensor]
    paired: bool
    output: Literal["logit", "vote", "relative", "critic"]


OBJECTIVES: dict[str, Objective] = {
    "minimax": Objective(discriminator_loss, minimax_generator_loss, paired=False, output="logit"),
    "non_saturating": Objective(discriminator_loss, non_saturating_generator_loss, paired=False, output="logit"),
    "relativistic": Objective(
        relativistic_discriminator_loss, relativistic_generator_loss, paired=True, output="relative"
    ),
    "least_squares": Objective(
        least_squares_discriminator_loss, least_squares_generator_loss, paired=False, output="vote"
    ),
    "hinge": Objective(hinge_discriminator_loss, critic_generator_loss, paired=False, output="vote"),
    "wasserstein": Objective(wasserstein_discriminator_loss, critic_generator_loss, paired=False, output="critic"),
}

CERTAIN = 0.995
"""The largest probability that is read from a vote, whose logarithm stays finite; 1 less it is the smallest."""


def objective_logits(objective: Objective, *, real_logits: Tensor, fake_logits: Tensor) -> tuple[Tensor, Tensor]:
    """Return the logits of D(x) and of D(G(z)) as this objective defines D; at the equilibrium each D is 1/2.

    A "vote" C is the probability (1 + C) / 2, exact for the optimum of least squares, within [1 - CERTAIN, CERTAIN].
    If adding a constant to all outputs changes no loss, one output alone means nothing. There D(x) is
    sigmoid(C(x) - E C(G(z))) and D(G(z)) is sigmoid(C(G(z)) - E C(x)): Jolicoeur-Martineau 2018, equation 5. Outputs
    of a "critic" are first divided by their standard deviation among images of a kind, if they differ: D(x) - D(G(z))
    is about 0.9 if the two kinds are three standard deviations apart.

    Args:
        objective: what outputs mean is read.
        real_logits: (B,), the discriminator's outputs C(x) for real images.
        fake_logits: (B,), those for generated images.

    Returns:
        Two tensors (B,), of logits.
    """
    real, fake = real_logits, fake_logits
    if objective.output == "logit":
        return real, fake
    if objective.output == "vote":
        return torch.logit((1 + real) / 2, eps=1 - CERTAIN), torch.logit((1 + fake) / 2, eps=1 - CERTAIN)
    if objective.output == "critic":
        scale = _spread(real, fake)
        real, fake = real / scale, fake / scale
    return real - fake.mean(), fake - real.mean()


def _spread(*kinds: Tensor) -> Tensor:
    """Return the standard deviation within kinds, or 1 if it is no more than rounding."""
    spread = torch.stack([outputs.var(correction=0) for outputs in kinds]).mean().sqrt()
    rounding = 10 * torch.finfo(spread.dtype).eps * torch.cat(kinds).abs().max()
    return torch.where(spread > rounding, spread, 1.0)
