"""A game on prepared data: what the stages `train` and `retrain` share."""

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

import gan_core
from gan_core.checkpoints import restore_checkpoint
from gan_core.config import ComputeConfig, ExecutionConfig, NetworkConfig, TrainConfig
from gan_core.execution import execution_of, fitting_parts
from gan_core.state import TrainState, initial_state
from gan_core.training import Report, train
from stages.errors import StageError
from stages.lineage import code_sha256, dvc_md5
from stages.prepared import load_images, load_summary
from stages.workspace import Workspace, training_key


class Game:
    """The images of a folder on this machine, and trainings on them."""

    def __init__(
        self, prepared: Path, compute: ComputeConfig, execution: ExecutionConfig, network: NetworkConfig
    ) -> None:
        self.how, self.network, self.compute = execution_of(compute, execution, network), network, compute
        self.summary, self.data_md5 = load_summary(prepared), dvc_md5(prepared)
        self.images, self.unseen = (
            self.how.placed(torch.from_numpy(load_images(prepared, split))) for split in ("train", "validation")
        )

    def parameters(self, config: TrainConfig) -> dict[str, Any]:
        """Return the sections that say what is trained."""
        return {"compute": asdict(self.compute), "network": asdict(self.network), "train": asdict(config)}

    def key(self, config: TrainConfig, **more: str) -> str:
        """Return the training's key; `more` tells apart trainings that differ in nothing else."""
        made_by = {
            "gan_core": code_sha256(Path(gan_core.__file__).parent),
            "torch": torch.__version__,
            "device": self.how.device.type,
        }
        arithmetic = {name: str(value) for name, value in asdict(self.how.arithmetic).items()}
        return training_key(self.parameters(config), self.data_md5, made_by | arithmetic | more)

    def state(self, config: TrainConfig, work: Workspace) -> TrainState:
        """Return both players as they are at the start, or as the last checkpoint holds them."""
        state = initial_state(config, self.network, self.images, self.how.arithmetic, self.how.device)
        if work.checkpoint.exists():
            restore_checkpoint(work.checkpoint, state, config)
        return state

    def play(self, config: TrainConfig, state: TrainState) -> Iterator[Report]:
        """Advance a state to the end.

        Args:
            config: Algorithm 1's numbers.
            state: of this game; changed in place.

        Yields:
            One report a step.

        Raises:
            StageError: a batch does not fit into the device's memory; it says what would.
        """
        draws = self.how.draws(config, self.images)
        try:
            yield from train(config, state, draws, self.how.player())
        except torch.OutOfMemoryError:
            too_large = True
        else:
            too_large = False
        if too_large:  # here, where the error no longer holds the tensors of the step that failed
            torch.cuda.empty_cache()
            raise StageError(_remedy(config, state.arithmetic.micro_batches, fitting_parts(config, state, draws)))


def _remedy(config: TrainConfig, tried: int, parts: int | None) -> str:
    message = f"a batch of {config.batch_size // tried} images does not fit into the memory of the GPU"
    if parts is None:
        return f"{message}, and neither does a single one; make the networks smaller"
    return (
        f"{message}; one of {config.batch_size // parts} does: set train.batch_size to that in params.yaml, or "
        f"execution.micro_batches to {parts}, which keeps the batch and puts it through the networks in parts"
    )
