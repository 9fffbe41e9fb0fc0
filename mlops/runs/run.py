"""A game on prepared data: what the stages `train` and `replicate` share."""

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from gan_core.config import ComputeConfig, ExecutionConfig, NetworkConfig, TrainConfig
from gan_core.runtime.device import configure_torch
from gan_core.runtime.distributed import all_gather, local_only, world_size
from gan_core.training.checkpoints import restore_checkpoint
from gan_core.training.execution import execution_of, fitting_parts
from gan_core.training.loop import Report, train
from gan_core.training.state import TrainState, initial_state
from mlops.project.code_digest import stage_sha256
from mlops.project.errors import UserError
from mlops.project.identity import dvc_md5
from mlops.project.prepared_data import load_images, load_summary
from mlops.runs.workspace import Workspace, training_key


class TrainingRun:
    """The images of a folder on this machine, and trainings on them."""

    def __init__(
        self, stage: str, prepared: Path, compute: ComputeConfig, execution: ExecutionConfig, network: NetworkConfig
    ) -> None:
        configure_torch(compute)
        self.stage = stage
        self.how, self.network, self.compute = execution_of(compute, execution, network), network, compute
        self.summary, self.data_md5 = load_summary(prepared), dvc_md5(prepared)
        self.images, self.unseen = (
            self.how.placed(torch.from_numpy(load_images(prepared, split))) for split in ("train", "validation")
        )

    def parameters(self, config: TrainConfig) -> dict[str, Any]:
        """Return the sections that say what is trained."""
        return {"compute": asdict(self.compute), "network": asdict(self.network), "train": asdict(config)}

    def key(self, config: TrainConfig) -> str:
        """Return the training's key; the code of its stage tells `train` and `replicate` apart."""
        made_by = {
            "code": stage_sha256(self.stage),
            "torch": torch.__version__,
            "device": self.how.device.type,
        }
        arithmetic = {name: str(value) for name, value in asdict(self.how.arithmetic).items()}
        return training_key(self.parameters(config), self.data_md5, made_by | arithmetic)

    def state(self, config: TrainConfig, work: Workspace) -> TrainState:
        """Return both players as they are at the start, or as the last checkpoint holds them, on every rank.

        Args:
            config: Algorithm 1's numbers.
            work: of this training; rank 0 holds it.

        Returns:
            The state from which to play on.

        Raises:
            UserError: ranks do not see the same checkpoint.
        """
        state = initial_state(config, self.network, self.images, self.how.arithmetic, self.how.device)
        all_gather(torch.tensor(0))  # from here on rank 0 holds the workspace, and nobody else writes there
        if work.checkpoint.exists():
            restore_checkpoint(work.checkpoint, state, config)
        steps = [int(step) for step in all_gather(torch.tensor(state.step))]
        if min(steps) < max(steps):
            raise UserError(
                f"ranks would go on from different steps, {steps}: the machines must share {work.folder.parent}"
            )
        return state

    def follow(self, config: TrainConfig) -> None:
        """Train to the end as a rank that records nothing."""
        for _ in self.play(config, self.state(config, Workspace(self.key(config)))):
            pass

    def play(self, config: TrainConfig, state: TrainState) -> Iterator[Report]:
        """Advance a state to the end.

        Args:
            config: Algorithm 1's numbers.
            state: of this game; changed in place.

        Yields:
            One report a step.

        Raises:
            UserError: a batch does not fit into the device's memory; it says what would.
        """
        batches = self.how.batches(config, self.network, self.images)
        try:
            step = self.how.step(lambda how: print(f"steps are played {how}"))
            yield from train(config, state, batches, step)
        except torch.OutOfMemoryError:
            too_large = True
        else:
            too_large = False
        if too_large:  # here, where the error no longer holds the tensors of the step that failed
            torch.cuda.empty_cache()
            tried = state.arithmetic.micro_batches
            with local_only():  # the other ranks are not where this one is, so it tries whole batches
                parts = fitting_parts(config, state, self.how.batches(config, self.network, self.images))
            raise UserError(_remedy(config, tried, parts))


def _remedy(config: TrainConfig, tried: int, parts: int | None) -> str:
    """Return what to do where a rank's `tried`-th part of its rows is too much, and a batch's `parts`-th is not."""
    message = f"a batch of {config.batch_size // (tried * world_size())} images does not fit into the memory of the GPU"
    if parts is None:
        return f"{message}, and neither does a single one; make the networks smaller"
    fitting = config.batch_size // parts
    return (
        f"{message}; one of {fitting} does: set train.batch_size to {fitting * world_size()} in params.yaml, or "
        f"execution.micro_batches to {max(2 * tried, parts // world_size())}, which keeps the batch and puts it through the "
        "networks in parts"
    )
