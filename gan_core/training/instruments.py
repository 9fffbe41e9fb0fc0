"""Readings of a training between two steps: D and V on seen and unseen images, gradients, updates and variety."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from gan_core.augmentation.adaptive import overfitting
from gan_core.generation.latents import z_bank
from gan_core.losses.adversarial import OBJECTIVES, Objective, objective_logits
from gan_core.losses.value import jsd_estimate, value
from gan_core.networks.layers import frozen_statistics
from gan_core.runtime.adam import EPSILON
from gan_core.runtime.distributed import local_only
from gan_core.runtime.randomness import stream
from gan_core.runtime.schedules import largest
from gan_core.training.batches import taken
from gan_core.training.state import TrainState

COUNT = 64
"""Images of each kind from which a reading is computed."""

NAMES = (
    *("real_prob", "fake_prob", "value", "jsd", "distance"),
    *("unseen_prob", "unseen_value", "unseen_jsd", "unseen_distance", "overfitting"),
    *("d_grad_norm", "g_grad_norm", "g_signal", "g_update_ratio", "variety"),
)
"""What `Instruments.read` returns, in its order."""


class Instruments:
    """Readings of a training between two steps; they change no bit of it and use none of its draws.

    `labels` are those of the training images, of whose frequencies are the labels of the bank, and of the unseen ones.
    """

    def __init__(
        self, state: TrainState, images: Tensor, unseen: Tensor, labels: tuple[Tensor, Tensor] | None = None
    ) -> None:
        self._images, self._unseen = images, unseen
        self._labels = labels if labels else (None, None)
        self._bank = z_bank(state.network, seed=state.config.seed, count=COUNT).to(state.device)
        rng = stream(state.config.seed, "instruments labels")
        self._bank_labels = _at(self._labels[0], torch.randint(len(images), (COUNT,), generator=rng), state.device)

    @torch.no_grad()
    def read(self, state: TrainState) -> dict[str, float]:
        """Return the readings, one for each of `NAMES`, of a state that has just computed a step; waits for the device.

        Probabilities and values are of the discriminator without dropout. With D for the objective's discriminator (see
        `gan_core.losses.adversarial.objective_logits`), x real and G(z) of a fixed bank of z:

        `real_prob` is E D(x), `fake_prob` E D(G(z)), `value` V(D, G) in nats, `jsd` the estimate (V + log 4) / 2 of the
        Jensen-Shannon divergence, `distance` from equilibrium E |D - 1/2| over both kinds of images, in [0, 1/2].
        `unseen_*` are the same on real images that the discriminator is not trained on: if it memorised its training
        images, they give a smaller divergence. `overfitting` is Karras et al. 2020, arXiv:2006.06676, equation 1: the
        share of the gap between logits of training and of generated images by which unseen real images fall back; 0
        for a discriminator that generalises, 1 for one that takes unseen images for generated.

        `d_grad_norm` and `g_grad_norm` are Euclidean norms of the last gradients that the networks descended (nats per
        weight, penalties included). `g_signal` is the share of a gradient that the generator's loss passes on: the mean
        size of its derivative by the logit of a generated image, which is D(G(z)) for the minimax loss, 1 - D(G(z)) for
        the non-saturating one, the size of that logit for least squares, and 1 for hinge and Wasserstein.
        `g_update_ratio` is the length of the generator's last step divided by that of its weights, computed at the full
        learning rate, so that a planned decay is no stall. `variety` is the mean squared distance between two images of
        the bank divided by that between two real ones: near 1 for a good generator, 1 - 1/k for one that generates k
        images only, each as often.
        """
        objective = OBJECTIVES[state.config.loss]
        real = self._draw("instruments real", self._images, self._labels[0], state)
        unseen = self._draw("unseen", self._unseen, self._labels[1], state)
        frozen = frozen_statistics(state.generator), frozen_statistics(state.discriminator)
        with local_only(), state.autocast(), frozen[0], frozen[1]:
            fake = state.generated(self._bank, self._bank_labels), self._bank_labels
            logits = [state.logits(batch, labels=labels) for batch, labels in (real, fake, unseen)]
        seen_values = _probabilities_and_values(objective, logits[0], logits[1])
        unseen_values = _probabilities_and_values(objective, logits[2], logits[1])
        readings = [
            *seen_values,
            unseen_values[0],
            *unseen_values[2:],
            overfitting(real_logits=logits[0], fake_logits=logits[1], unseen_logits=logits[2]),
            _gradient_norm(state.discriminator),
            _gradient_norm(state.generator),
            _signal(objective, logits[0], logits[1]),
            _update_ratio(state),
            _spread(fake[0]) / _spread(torch.cat([real[0], unseen[0]])),
        ]
        return dict(zip(NAMES, torch.stack([reading.double() for reading in readings]).tolist(), strict=True))

    def _draw(
        self, purpose: str, images: Tensor, labels: Tensor | None, state: TrainState
    ) -> tuple[Tensor, Tensor | None]:
        """Return `COUNT` images of the whole split and their labels, others at every step, with replacement."""
        indices = torch.randint(len(images), (COUNT,), generator=stream(state.config.seed, purpose, state.step))
        return taken(images, indices, state.device), _at(labels, indices, state.device)


def _at(labels: Tensor | None, indices: Tensor, device: torch.device) -> Tensor | None:
    return None if labels is None else taken(labels, indices, device)


def _probabilities_and_values(objective: Objective, real_logits: Tensor, fake_logits: Tensor) -> list[Tensor]:
    """Return E D(x), E D(G(z)), V, the estimate of JSD and the distance from equilibrium."""
    real, fake = objective_logits(objective, real_logits=real_logits, fake_logits=fake_logits)
    worth = value(real_logits=real, fake_logits=fake)
    distance = (torch.cat([real, fake]).sigmoid() - 0.5).abs().mean()
    return [real.sigmoid().mean(), fake.sigmoid().mean(), worth, jsd_estimate(worth), distance]


@torch.enable_grad()
def _signal(objective: Objective, real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """Return the sum of |d loss / d logit| over generated images; the loss is a mean, so this is a mean as well."""
    fake = fake_logits.detach().requires_grad_()
    gradient: Tensor = torch.autograd.grad(objective.generator(real_logits=real_logits, fake_logits=fake), fake)[0]
    return gradient.abs().sum()


def _gradient_norm(network: nn.Module) -> Tensor:
    """Return the norm of the gradient that the network descended last, which stays until its next update."""
    return _norm([parameter.grad for parameter in network.parameters() if parameter.grad is not None])


def _norm(tensors: Sequence[Tensor]) -> Tensor:
    norm: Tensor = torch.linalg.vector_norm(torch.stack(list(torch._foreach_norm(list(tensors)))))
    return norm


def _update_ratio(state: TrainState) -> Tensor:
    """Return ||step|| / ||weights|| of the generator, its last step computed from Adam's moments."""
    adam = state.g_optimizer
    count = adam.counts[0].item()
    roots = torch._foreach_sqrt(adam.squares)
    torch._foreach_div_(roots, (1 - adam.beta2**count) ** 0.5)
    torch._foreach_add_(roots, EPSILON)
    steps = torch._foreach_div(adam.means, roots)
    rate = largest(state.config.generator_learning_rate)
    ratio: Tensor = rate / (1 - adam.beta1**count) * _norm(steps) / _norm(adam.parameters)
    return ratio


def _spread(images: Tensor) -> Tensor:
    """Return the mean squared distance between two of the images: twice the sum of the variances of all pixels."""
    return 2 * images.flatten(1).var(dim=0).sum()
