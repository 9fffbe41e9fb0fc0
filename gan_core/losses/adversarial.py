r"""The losses of both players, on logits, each to be minimised; all are means over the batch, in nats.

With D(x) = sigmoid(logit), -log D = softplus(-logit) and -log(1 - D) = softplus(logit). Softplus is exact where D
rounds to 0 or 1 and keeps its gradient there, which log(sigmoid(.)) does not.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from torch import Tensor
from torch.nn.functional import softplus


def discriminator_loss(*, real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """Return -V(D, G) = -E log D(x) - E log(1 - D(G(z))): Goodfellow et al. 2014, equation 1 and Algorithm 1.

    Args:
        real_logits: (B,), the discriminator's logits of real images.
        fake_logits: (B,), those of generated images.

    Returns:
        A scalar in nats; log 4 where D is 1/2 everywhere.
    """
    return softplus(-real_logits).mean() + softplus(fake_logits).mean()


def minimax_generator_loss(*, real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """Return E log(1 - D(G(z))): Goodfellow et al. 2014, equation 1. Saturates where D rejects G(z) with confidence.

    Args:
        real_logits: not read; all generator losses have one signature.
        fake_logits: (B,), the discriminator's logits of generated images.

    Returns:
        A scalar in nats, at most 0.
    """
    return -softplus(fake_logits).mean()


def non_saturating_generator_loss(*, real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """Return -E log D(G(z)): Goodfellow et al. 2014, section 3. Same fixed point, strong gradient early in learning.

    Args:
        real_logits: not read; all generator losses have one signature.
        fake_logits: (B,), the discriminator's logits of generated images.

    Returns:
        A scalar in nats, at least 0.
    """
    return softplus(-fake_logits).mean()


def relativistic_discriminator_loss(*, real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """Return E softplus(D(G(z)) - D(x)) over pairs, D being logits: Jolicoeur-Martineau 2018; Huang et al. 2024, eq. 2.

    The discriminator is asked which of two images is the real one, so each fake is compared with a real image instead
    of with a fixed threshold; with R1 and R2 the game converges locally and covers modes.

    Args:
        real_logits: (B,), logits of real images.
        fake_logits: (B,), logits of generated images, paired with the real ones by position.

    Returns:
        A scalar in nats; log 2 where D cannot tell the two apart.
    """
    return softplus(fake_logits - real_logits).mean()


def relativistic_generator_loss(*, real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """Return E softplus(D(x) - D(G(z))): the discriminator's relativistic loss with the roles exchanged.

    Args:
        real_logits: (B,), logits of real images.
        fake_logits: (B,), logits of generated images, paired with the real ones by position.

    Returns:
        A scalar in nats; log 2 where D cannot tell the two apart.
    """
    return softplus(real_logits - fake_logits).mean()


@dataclass(frozen=True)
class Objective:
    """What each player minimises. `paired` says that the generator's loss reads the logits of real images."""

    discriminator: Callable[..., Tensor]
    generator: Callable[..., Tensor]
    paired: bool


OBJECTIVES: dict[Literal["minimax", "non_saturating", "relativistic"], Objective] = {
    "minimax": Objective(discriminator_loss, minimax_generator_loss, paired=False),
    "non_saturating": Objective(discriminator_loss, non_saturating_generator_loss, paired=False),
    "relativistic": Objective(relativistic_discriminator_loss, relativistic_generator_loss, paired=True),
}


def game_logits(objective: Objective, *, real_logits: Tensor, fake_logits: Tensor) -> tuple[Tensor, Tensor]:
    """Return the logits of D(x) and of D(G(z)) as this objective defines D.

    For a paired objective a logit alone means nothing: adding a constant to all changes no loss. There D(x) is
    sigmoid(C(x) - E C(G(z))) and D(G(z)) is sigmoid(C(G(z)) - E C(x)): Jolicoeur-Martineau 2018, equation 5. Under both
    definitions the equilibrium is at 1/2.

    Args:
        objective: which game is played.
        real_logits: (B,), the discriminator's logits C(x) of real images.
        fake_logits: (B,), those of generated images.

    Returns:
        Two tensors (B,), of logits.
    """
    real_offset = fake_logits.mean() if objective.paired else 0.0
    fake_offset = real_logits.mean() if objective.paired else 0.0
    return real_logits - real_offset, fake_logits - fake_offset
