"""Layers that torch does not have."""

import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Generator, Tensor, nn
from torch.nn.functional import embedding, normalize

from gan_core.runtime.distributed import all_reduce_sum, shard, world_size


class Maxout(nn.Module):
    """Maximum over `pieces` linear maps for each unit: Goodfellow et al. 2013, arXiv:1302.4389, section 3."""

    def __init__(self, inputs: int, units: int, pieces: int) -> None:
        super().__init__()
        self.pieces = pieces
        self.linear = nn.Linear(inputs, units * pieces)

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, units) for x (B, inputs)."""
        linear: Tensor = self.linear(x)
        return linear.reshape(len(x), -1, self.pieces).amax(dim=2)

    def gain(self) -> float:
        """Return E max(n_1, ..., n_k)^2 for k = `pieces` independent standard normals: 1 for 1 and 2 pieces, 1.8 for 5.

        A maxout unit multiplies its linear maps' mean square by it; a rectifier halves it (He et al. 2015,
        arXiv:1502.01852, equation 10). With a rectifier's weights the logits of an untrained discriminator of two such
        layers with 5 pieces are 3.6 times as large, and the generator follows its noise.
        """
        x, k = torch.linspace(-10, 10, 20001, dtype=torch.float64), self.pieces
        density = k * torch.exp(-x.square() / 2) / math.sqrt(2 * math.pi) * torch.special.ndtr(x) ** (k - 1)
        return torch.trapezoid(x.square() * density, x).item()


def dropped(x: Tensor, share: float, rng: Generator) -> Tensor:
    """Return x with a random `share` of its entries zeroed and the rest divided by 1 - share (inverted dropout).

    Args:
        x: any shape.
        share: probability of a zero, in [0, 1).
        rng: the mask's, on the device of x; torch's own dropout takes none. Each of several ranks draws the mask of the
            whole batch and takes its rows.

    Returns:
        A tensor of the shape of x, with the same mean over masks.
    """
    whole = (len(x) * world_size(), *x.shape[1:])
    keep = shard(torch.rand(whole, generator=rng, device=x.device)) >= share
    return x * keep / (1 - share)


def beside_label(z: Tensor, embed: nn.Embedding | None, labels: Tensor | None) -> Tensor:
    """Return z beside the embedding of its label: Mirza and Osindero 2014, arXiv:1411.1784, figure 1.

    An embedding is a linear map of the one-hot label without bias; its entries start as those of z, N(0, 1).

    Args:
        z: (B, Z).
        embed: of K classes to E dimensions; None for an unconditional generator.
        labels: (B,) int64 in 0..K - 1, read if there is an embedding.

    Returns:
        (B, Z + E), or z itself.
    """
    return z if embed is None else torch.cat([z, embed(labels)], dim=1)


class Projection(nn.Module):
    """What the label adds to a logit: Miyato and Koyama 2018, arXiv:1802.05637, equation 3.

    If log p(y | x) is a softmax over linear maps of features for both p_data and p_g, the label's part of the optimal
    logit, log p_data(y | x) - log p_g(y | x), is linear in the embedding of y.
    """

    def __init__(self, features: int, classes: int) -> None:
        super().__init__()
        self.embed = nn.Linear(features, classes, bias=False)  # as the linear map beside it, initial weights included

    def forward(self, features: Tensor, labels: Tensor) -> Tensor:
        """Return <embed(y), f> (B,) for features f (B, F) and labels y (B,) int64."""
        return (embedding(labels, self.embed.weight) * features).sum(dim=1)


class BatchNorm(nn.BatchNorm2d):
    """Batch normalisation by the whole batch: Ioffe and Szegedy 2015, arXiv:1502.03167, Algorithm 1.

    One rank computes what torch does, several take mean and variance over all of them; torch's SyncBatchNorm needs GPUs
    and cannot be differentiated twice, as gradient penalties require.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, C, H, W) for x of this shape, by the batch in training and by running statistics otherwise."""
        if not self.training or world_size() == 1:
            return super().forward(x)
        assert self.running_mean is not None
        number = x.numel() // x.shape[1] * world_size()
        shift = self.running_mean.clone()  # near the mean, so that the difference of squares below keeps its digits
        shifted = x.float() - shift[:, None, None]
        sums = torch.stack([shifted.sum(dim=(0, 2, 3)), shifted.square().sum(dim=(0, 2, 3))])
        means = all_reduce_sum(sums) / number  # one all-reduce for both
        mean = means[0]
        variance = (means[1] - mean.square()).clamp(min=0)
        if self.track_running_stats:
            self._record((mean + shift).detach(), variance.detach() * (number / (number - 1)))
        scale = (variance + self.eps).rsqrt()
        if not self.affine:
            return ((shifted - mean[:, None, None]) * scale[:, None, None]).to(x.dtype)
        scale = self.weight * scale
        return ((shifted - mean[:, None, None]) * scale[:, None, None] + self.bias[:, None, None]).to(x.dtype)

    def _record(self, mean: Tensor, variance: Tensor) -> None:
        assert self.running_mean is not None and self.running_var is not None  # noqa: PT018
        assert self.num_batches_tracked is not None and self.momentum is not None  # noqa: PT018
        self.running_mean.lerp_(mean, self.momentum)
        self.running_var.lerp_(variance, self.momentum)
        self.num_batches_tracked.add_(1)


class SpectralNorm(nn.Module):
    """A weight divided by its largest singular value: Miyato et al. 2018, arXiv:1802.05957, Algorithm 1.

    By power iteration: v = W'u / |W'u|, u = Wv / |Wv|, sigma = u'Wv, where W has a row for each output and u and v are
    constants to the gradient. A call starts from the kept u and keeps nothing, so all passes of an update divide by the
    same sigma, as differences of their logits need; `advance` keeps u, once an update. It depends on weights alone, so
    all ranks have the same. Whatever the precision it is computed in float32.
    """

    u: Tensor

    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.register_buffer("u", torch.empty(outputs))

    def forward(self, weight: Tensor) -> Tensor:
        """Return W / sigma of the shape of W (outputs, ...)."""
        with torch.autocast(weight.device.type, enabled=False):
            matrix = weight.flatten(1)
            u, v = self._iterated(matrix)
            return weight / torch.dot(u, matrix @ v)

    def advance(self, weight: Tensor) -> None:
        """Keep u after one more iteration."""
        self.u.copy_(self._iterated(weight.flatten(1))[0])

    @torch.no_grad()
    def _iterated(self, matrix: Tensor) -> tuple[Tensor, Tensor]:
        v = normalize(self.u @ matrix, dim=0)
        return normalize(matrix @ v, dim=0), v

    def draw(self, rng: Generator) -> None:
        """Draw u, a random direction."""
        self.u.copy_(normalize(torch.randn(self.u.shape, generator=rng), dim=0))


def advance_spectral_norms(network: nn.Module) -> None:
    """Let the singular values of a network that has spectral normalisation follow its weights, before an update."""
    for layer in network.modules():
        norm, weight = getattr(layer, "norm", None), getattr(layer, "weight", None)
        if isinstance(norm, SpectralNorm) and isinstance(weight, Tensor):
            norm.advance(weight)


@contextmanager
def frozen_statistics(network: nn.Module) -> Iterator[None]:
    """Normalise as in training, without recording statistics: inside, a forward pass changes no bit."""
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        norm.track_running_stats = False
    try:
        yield
    finally:
        for norm in norms:
            norm.track_running_stats = True
