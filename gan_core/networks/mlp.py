"""The multilayer perceptrons of Goodfellow et al. 2014, section 5."""

import torch
from torch import Generator, Tensor, nn

from gan_core.config import MlpConfig
from gan_core.networks.layers import Maxout, Projection, beside_label, dropped
from gan_core.runtime.sampling import sample

MEAN_OF = 60_000
"""Images, at most, that are averaged for a generator's start; the mean's error is then at most 1 grey level of 255."""


class MlpGenerator(nn.Module):
    """Two rectifier layers and a sigmoid: Goodfellow et al. 2014, section 5. The sigmoid is scaled to [-1, 1].

    With `classes` it reads an embedding of the label, as wide as z, beside z.
    """

    def __init__(self, config: MlpConfig, size: int, channels: int, classes: int = 0) -> None:
        super().__init__()
        self.shape = (channels, size, size)
        width = config.generator_width
        self.embed = nn.Embedding(classes, config.z_dim) if classes else None
        self.layers = nn.Sequential(
            nn.Linear(config.z_dim * (2 if classes else 1), width),
            nn.ReLU(),
            nn.Linear(width, width),
            nn.ReLU(),
            nn.Linear(width, channels * size * size),
        )

    def forward(self, z: Tensor, labels: Tensor | None = None) -> Tensor:
        """Return images (B, C, H, W) in [-1, 1] for z (B, Z) and labels (B,): 2 sigmoid(a) - 1 = tanh(a / 2)."""
        logits = self.layers(beside_label(z, self.embed, labels)).float()
        return torch.tanh(logits / 2).reshape(-1, *self.shape)

    @torch.no_grad()
    def start_at(self, images: Tensor, rng: Generator) -> None:
        """Start around the mean image: each output's bias becomes the inverse sigmoid of its pixel's mean.

        As in the authors' mnist.yaml (goodfeli/adversarial, `init_sigmoid_bias_from_marginals`). Means stay half a grey
        level away from black and white, where the sigmoid would have no gradient.

        Args:
            images: (N, C, H, W) uint8, on any device; of more than `MEAN_OF` a sample.
            rng: of the sample, on the CPU.
        """
        # Part by part, because torch converts all that it sums at once; sorted, because images may be mapped from disk.
        parts = sample(len(images), MEAN_OF, rng).sort().values.to(images.device).split(_rows_at_once(images))
        sums = torch.zeros(images.shape[1:], dtype=torch.int64, device=images.device)
        for part in parts:
            sums += images[part].sum(dim=0, dtype=torch.int64)
        means = sums.double() / (255 * min(len(images), MEAN_OF))
        bias = means.clamp(1 / 510, 1 - 1 / 510).logit().flatten()
        outputs = self.layers[-1]
        assert isinstance(outputs, nn.Linear)
        outputs.bias.copy_(bias)


def _rows_at_once(images: Tensor) -> int:
    """Return of how many images 64 MB can hold the pixels as int64: all sums are exact."""
    return max(1, (8 << 20) // images[0].numel())


class MlpDiscriminator(nn.Module):
    """Two maxout layers with dropout and a linear unit: Goodfellow et al. 2014, section 5.

    With `classes` the label is projected onto the features of the last layer.
    """

    def __init__(self, config: MlpConfig, size: int, channels: int, classes: int = 0) -> None:
        super().__init__()
        width, pieces = config.discriminator_width, config.maxout_pieces
        self.dropout = config.dropout
        self.first = Maxout(channels * size * size, width, pieces)
        self.second = Maxout(width, width, pieces)
        self.logit = nn.Linear(width, 1)
        self.projection = Projection(width, classes) if classes else None

    def forward(self, images: Tensor, rng: Generator | None = None, labels: Tensor | None = None) -> Tensor:
        """Return logits (B,) for images (B, C, H, W) and labels (B,); dropout acts if `rng` is given."""
        x = images.flatten(1)
        for layer in (self.first, self.second):
            x = layer(x)
            if rng is not None and self.dropout > 0:
                x = dropped(x, self.dropout, rng)
        with torch.autocast(images.device.type, enabled=False):
            features = x.float()
            logits: Tensor = self.logit(features).squeeze(1)
            return logits if self.projection is None else logits + self.projection(features, labels)
