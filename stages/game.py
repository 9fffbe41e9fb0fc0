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
from gan_core.ranks import apart, count, gathered
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
        """Return both players as they are at the start, or as the last checkpoint holds them, on every rank.

        Args:
            config: Algorithm 1's numbers.
            work: of this training; rank 0 holds it.

        Returns:
            The state from which to play on.

        Raises:
            StageError: ranks do not see the same checkpoint.
        """
        state = initial_state(config, self.network, self.images, self.how.arithmetic, self.how.device)
        gathered(torch.tensor(0))  # from here on rank 0 holds the workspace, and nobody else writes there
        if work.checkpoint.exists():
            restore_checkpoint(work.checkpoint, state, config)
        steps = [int(step) for step in gathered(torch.tensor(state.step))]
        if min(steps) < max(steps):
            raise StageError(
                f"ranks would go on from different steps, {steps}: the machines must share {work.folder.parent}"
            )
        return state

    def follow(self, config: TrainConfig, **more: str) -> None:
        """Play a training to its end as a rank that records nothing; `more` is as for `key`."""
        for _ in self.play(config, self.state(config, Workspace(self.key(config, **more)))):
            pass

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
            player = self.how.player(lambda how: print(f"steps are played {how}"))
            yield from train(config, state, draws, player)
        except torch.OutOfMemoryError:
            too_large = True
        else:
            too_large = False
        if too_large:  # here, where the error no longer holds the tensors of the step that failed
            torch.cuda.empty_cache()
            tried = state.arithmetic.micro_batches
            with apart():  # the other ranks are not where this one is, so it tries whole batches
                parts = fitting_parts(config, state, self.how.draws(config, self.images))
            raise StageError(_remedy(config, tried, parts))


def _remedy(config: TrainConfig, tried: int, parts: int | None) -> str:
    """Return what to do where a rank's `tried`-th part of its rows is too much, and a batch's `parts`-th is not."""
    message = f"a batch of {config.batch_size // (tried * count())} images does not fit into the memory of the GPU"
    if parts is None:
        return f"{message}, and neither does a single one; make the networks smaller"
    fitting = config.batch_size // parts
    return (
        f"{message}; one of {fitting} does: set train.batch_size to {fitting * count()} in params.yaml, or "
        f"execution.micro_batches to {max(2 * tried, parts // count())}, which keeps the batch and puts it through the "
        "networks in parts"
    )
