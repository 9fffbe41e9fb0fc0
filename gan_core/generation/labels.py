"""Labels for conditional generators: those that a person names, all in turn, and those of a grid's rows."""

from collections.abc import Sequence

import torch
from torch import Generator, Tensor

from gan_core.config import NetworkConfig
from gan_core.generation.latents import z_bank


def label_named(asked: str, classes: Sequence[str]) -> int:
    """Return the label of a class that a person asks for by its name or, if no class has that name, by its label.

    ValueError is raised if there is no such class, or if there are no classes.
    """
    if not classes:
        raise ValueError("this generator takes no label: it was trained with network.conditional false")
    if asked in classes:
        return classes.index(asked)
    if asked.isdecimal() and int(asked) < len(classes):
        return int(asked)
    shown = ", ".join(classes[:20]) + (", ..." if len(classes) > 20 else "")
    raise ValueError(f"there is no class {asked!r}; ask for one of {shown}, or for a label below {len(classes)}")


def in_turn(classes: int, *, count: int, first: int = 0) -> Tensor:
    """Return the labels (count,) int64 of images `first` and following of a bank: all classes in turn."""
    return torch.arange(first, first + count) % classes


def grid_bank(
    config: NetworkConfig, classes: int, *, seed: int, columns: int, rows: int
) -> tuple[Tensor, Tensor | None]:
    """Return z (N, Z) of a grid's images, row by row, and their labels (N,), None without classes.

    A conditional generator has one class a row, or `rows` / K rows for each of K < `rows` classes, and at most the
    first 2 `rows` classes. Every class has the same z, so a column shows what the label changes.

    Args:
        config: dimensions and distribution of z.
        classes: K; 0 for an unconditional generator.
        seed: of the bank of z.
        columns: images in a row.
        rows: of an unconditional grid, and about as many otherwise.

    Returns:
        Latents and labels on the CPU.
    """
    if not classes:
        return z_bank(config, seed=seed, count=columns * rows), None
    of_each, shown = max(1, rows // classes), min(classes, 2 * rows)
    z = z_bank(config, seed=seed, count=columns * of_each)
    return z.repeat(shown, 1), torch.arange(shown).repeat_interleave(len(z))


def class_rows(labels: Tensor, columns: int, rng: Generator) -> Tensor:
    """Return the places of `columns` images, drawn without replacement, of each class that has as many, (N,)."""
    order = torch.randperm(len(labels), generator=rng)
    places = [order[labels[order] == label][:columns] for label in labels.unique()]
    return torch.cat([row for row in places if len(row) == columns] or [labels[:0]])
