"""The parameters of the experiment on known densities: the sections of its own parameter file."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass as validated

from gan_core.config import NetworkConfig, TrainConfig
from mlops.project.errors import UserError
from mlops.project.params import load_as

NAMES = ("gaussian", "mixture", "heavy_tail", "ring", "grid")


@dataclass(frozen=True)
class GameConfig:
    """One game: `octaves` of the discriminator's sines and cosines, the networks, and their training."""

    octaves: Annotated[int, Field(ge=0, le=10)]
    network: Annotated[NetworkConfig, Field(discriminator="family")]
    train: TrainConfig


@dataclass(frozen=True)
class MeasureConfig:
    """Numbers of points: to train on, to measure at the end and on the way, and to show; cells of the histogram."""

    points: Annotated[int, Field(ge=1)]
    samples: Annotated[int, Field(ge=2)]
    samples_on_the_way: Annotated[int, Field(ge=2)]
    cells: Annotated[int, Field(ge=2)]
    shown: Annotated[int, Field(ge=1)]


@dataclass(frozen=True)
class GradientsConfig:
    """How a discriminator grows confident: the place of the poor generator, and D's steps."""

    shift: float
    learning_rate: Annotated[float, Field(gt=0)]
    steps: Annotated[int, Field(ge=1)]
    every: Annotated[int, Field(ge=1)]


@validated(config=ConfigDict(extra="forbid", strict=True), frozen=True)
class DensityParams:
    """All of the file; each density is a section."""

    workers: Annotated[int, Field(ge=1, le=64)]
    measure: MeasureConfig
    gradients: GradientsConfig
    gaussian: GameConfig
    mixture: GameConfig
    heavy_tail: GameConfig
    ring: GameConfig
    grid: GameConfig

    def games(self) -> dict[str, GameConfig]:
        """Return the games by the names of their densities."""
        return {name: getattr(self, name) for name in NAMES}


def load_density_params(path: Path) -> DensityParams:
    """Return the validated content of the file.

    Args:
        path: YAML with exactly the sections and keys of `DensityParams`.

    Returns:
        All sections.

    Raises:
        UserError: as `mlops.project.params.load_as`, or a picture on the way that no step would make.
    """
    params = load_as(DensityParams, path)
    for name, game in params.games().items():
        if game.train.sample_every >= game.train.steps:
            raise UserError(
                f"{path}: {name}.train.sample_every must be less than {name}.train.steps, {game.train.steps}, for a "
                f"picture on the way; got {game.train.sample_every}"
            )
    return params
