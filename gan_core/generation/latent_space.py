"""Images that show what a generator makes of its latent space: interpolations, truncation, and a walk.

Of a conditional generator the classes, 0 if it has none, take turns by row, and by image that walks.
"""

import torch
from torch import Tensor, nn

from gan_core.config import NetworkConfig
from gan_core.generation.generate import generate
from gan_core.generation.labels import in_turn
from gan_core.generation.latents import between, closed_walk, z_bank

ROWS, COLUMNS = 8, 10
"""Of a picture: a latent, or a pair of them, a row."""
TRUNCATIONS = (0.1, 0.2, 0.35, 0.5, 0.7, 0.9, 1.2, 1.6, 2.2, None)
"""Bounds of the components of z, one a column: from what is nearest the mean to no bound."""
WALKS, ANCHORS, STEPS = 16, 6, 12
"""Images that walk side by side, latents that each passes, and frames from one to the next."""


def interpolations(generator: nn.Module, config: NetworkConfig, seed: int, classes: int = 0) -> Tensor:
    """Return images (`ROWS` x `COLUMNS`, C, H, W) on the way between two z of the bank of `seed`, one pair a row."""
    ends = z_bank(config, seed=seed, count=2 * ROWS)
    ways = [between(config, start, end, COLUMNS) for start, end in zip(ends[:ROWS], ends[ROWS:], strict=True)]
    return generate(generator, torch.cat(ways), _of_rows(classes))


def truncations(generator: nn.Module, config: NetworkConfig, seed: int, classes: int = 0) -> Tensor:
    """Return images (`ROWS` x `COLUMNS`, C, H, W) of the bank of `seed`, one z a row, under each of `TRUNCATIONS`."""
    columns = [z_bank(config, seed=seed, count=ROWS, truncation=bound) for bound in TRUNCATIONS]
    return generate(generator, torch.stack(columns, dim=1).flatten(0, 1), _of_rows(classes))


def walk(generator: nn.Module, config: NetworkConfig, seed: int, classes: int = 0) -> Tensor:
    """Return frames (F, `WALKS`, C, H, W) of a walk through the bank of `seed` that ends a step before its start."""
    anchors = z_bank(config, seed=seed, count=WALKS * ANCHORS).reshape(WALKS, ANCHORS, -1)
    ways = torch.stack([closed_walk(config, passed, STEPS) for passed in anchors], dim=1)
    labels = in_turn(classes, count=WALKS).repeat(len(ways)) if classes else None
    images = generate(generator, ways.flatten(0, 1), labels)
    return images.reshape(-1, WALKS, *images.shape[1:])


def _of_rows(classes: int) -> Tensor | None:
    return in_turn(classes, count=ROWS).repeat_interleave(COLUMNS) if classes else None
