r"""The losses of the discriminator and the generator on logits, each to be minimised.

All take the discriminator's logits of real and of generated images, `real_logits` and `fake_logits`, (B,) each, paired
by position for the relativistic losses, and return a scalar, the mean over the batch in nats.

With D(x) = sigmoid(logit), -log D = softplus(-logit) and -log(1 - D) = softplus(logit). Softplus is exact where D
rounds to 0 or 1 and keeps its gradient there, which log(sigmoid(.)) does not.
"""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor
from torch.nn.functional import softplus


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


@dataclass(frozen=True)
class Objective:
    """What each network minimises; if `paired`, the generator's loss reads the logits of real images too."""

    discriminator: Callable[..., Tensor]
    generator: Callable[..., Tensor]
    paired: bool


OBJECTIVES: dict[str, Objective] = {
    "minimax": Objective(discriminator_loss, minimax_generator_loss, paired=False),
    "non_saturating": Objective(discriminator_loss, non_saturating_generator_loss, paired=False),
    "relativistic": Objective(relativistic_discriminator_loss, relativistic_generator_loss, paired=True),
}


def objective_logits(objective: Objective, *, real_logits: Tensor, fake_logits: Tensor) -> tuple[Tensor, Tensor]:
    """Return the logits of D(x) and of D(G(z)) as this objective defines D.

    For a paired objective a logit alone means nothing: adding a constant to all changes no loss. There D(x) is
    sigmoid(C(x) - E C(G(z))) and D(G(z)) is sigmoid(C(G(z)) - E C(x)): Jolicoeur-Martineau 2018, equation 5. Under both
    definitions the equilibrium is at 1/2.

    Args:
        objective: whether it is paired is read.
        real_logits: (B,), the discriminator's logits C(x) of real images.
        fake_logits: (B,), those of generated images.

    Returns:
        Two tensors (B,), of logits.
    """
    real_offset = fake_logits.mean() if objective.paired else 0.0
    fake_offset = real_logits.mean() if objective.paired else 0.0
    return real_logits - real_offset, fake_logits - fake_offset
