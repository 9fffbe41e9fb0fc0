"""V(D, G) of samples, and its estimate of the Jensen-Shannon divergence."""

import math

from torch import Tensor
from torch.nn.functional import logsigmoid


def value(*, real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """Return V(D, G) = E log D(x) + E log(1 - D(G(z))) of samples: Goodfellow et al. 2014, equation 1.

    Args:
        real_logits: (B,), the discriminator's logits of real samples.
        fake_logits: (B,), those of generated samples; B may differ.

    Returns:
        A scalar in nats, at most 0; -log 4 if D is 1/2 everywhere.
    """
    return logsigmoid(real_logits).mean() + logsigmoid(-fake_logits).mean()


def jsd_estimate(value: Tensor) -> Tensor:
    """Return (V + log 4) / 2, clipped to [0, log 2]: Goodfellow et al. 2014, equation 6 solved for the JSD.

    No D has a greater value than D* (Proposition 1), so V(D, G) <= V(D*, G) = -log 4 + 2 JSD. For samples that D was
    not trained on, `value` is unbiased for V(D, G), so before clipping this is in expectation a lower bound of the JSD,
    and unbiased for it with the logits of D*, log p_data - log p_g. Clipping moves each estimate nearer to the JSD, but
    at 0 it can lift their mean above the bound.

    Args:
        value: any shape, V(D, G) in nats.

    Returns:
        The shape of `value`, in nats.
    """
    return ((value + math.log(4)) / 2).clamp(0, math.log(2))
