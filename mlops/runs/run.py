"""A training on prepared data: what the stages `train` and `replicate` share."""

import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from gan_core.config import AugmentationConfig, ComputeConfig, ExecutionConfig, NetworkConfig, TrainConfig
from gan_core.generation.generator_file import save_generator
from gan_core.runtime.device import configure_torch
from gan_core.runtime.distributed import all_gather, local_only, rank, world_size
from gan_core.training.batches import Batches
from gan_core.training.execution import execution_of, fitting_parts
from gan_core.training.instruments import Instruments
from gan_core.training.loop import Report, train
from gan_core.training.state import TrainState, initial_state
from mlops.project.code_digest import stage_sha256
from mlops.project.errors import UserError
from mlops.project.identity import dvc_md5
from mlops.project.prepared_data import UNLABELLED, load_images, load_labels, load_summary
from mlops.project.result_files import snapshot_path
from mlops.runs.workspace import Workspace, training_key
from mlops.safety.ending import asked_to_stop, deferred, stop

SAVED_EVERY = 600.0
"""Seconds between two checkpoints, at most; `train.checkpoint_every` bounds the steps between them."""


class TrainingRun:
    """Prepared images, placed for training, and the device and arithmetic (`execution`) of trainings on them."""

    def __init__(
        self,
        stage: str,
        prepared: Path,
        compute: ComputeConfig,
        execution: ExecutionConfig,
        network: NetworkConfig,
        augmentation: AugmentationConfig,
    ) -> None:
        configure_torch(compute)
        self.stage = stage
        self.execution, self.network, self.compute = execution_of(compute, execution, network), network, compute
        self.augmentation = augmentation
        self.summary, self.data_md5 = load_summary(prepared), dvc_md5(prepared)
        self.classes = self._classes(prepared)
        self.images, self.unseen = (
            self.execution.placed(torch.from_numpy(load_images(prepared, split))) for split in ("train", "validation")
        )
        self.labels = self._labels(prepared)

    def _classes(self, prepared: Path) -> list[str]:
        """Return the names of the classes that the networks read; none for unconditional ones."""
        if not self.network.conditional:
            return []
        if self.summary.classes is None:
            raise UserError(UNLABELLED)
        return self.summary.classes

    def _labels(self, prepared: Path) -> tuple[torch.Tensor, torch.Tensor] | None:
        """Return the labels of training and unseen images, on the CPU, for conditional networks."""
        train, unseen = (load_labels(prepared, split) for split in ("train", "validation"))
        if not self.classes or train is None or unseen is None:
            return None
        return torch.from_numpy(train), torch.from_numpy(unseen)

    def parameters(self, config: TrainConfig) -> dict[str, Any]:
        """Return the sections of `params.yaml` that the weights depend on."""
        own = {"compute": self.compute, "network": self.network, "augmentation": self.augmentation}
        return {name: asdict(section) for name, section in (own | {"train": config}).items()}

    def key(self, config: TrainConfig) -> str:
        """Return the training's key; the digest of its stage's code in it tells `train` and `replicate` apart."""
        device = self.execution.device.type
        made_by = {"code": stage_sha256(self.stage), "torch": torch.__version__, "device": device}
        arithmetic = {name: str(value) for name, value in asdict(self.execution.arithmetic).items()}
        return training_key(self.parameters(config), self.data_md5, made_by | arithmetic)

    def save(self, path: Path, state: TrainState) -> None:
        """Write the averaged generator of a state."""
        shape = {"size": self.summary.size, "channels": self.summary.channels}
        save_generator(path, state.ema_generator, self.network, **shape, classes=self.classes)

    def batches(self, state: TrainState) -> Batches:
        """Return what the steps of a state draw."""
        labels, unseen_labels = self.labels or (None, None)
        kind = self.execution.batches_of(self.images)
        return kind(state, self.images, labels, self.unseen, unseen_labels)

    def instruments(self, state: TrainState) -> Instruments:
        """Return the instruments that read a state."""
        return Instruments(state, self.images, self.unseen, self.labels)

    def initial_state(self, config: TrainConfig) -> TrainState:
        """Return the state at the start."""
        arithmetic, device = self.execution.arithmetic, self.execution.device
        return initial_state(
            config, self.network, self.images, arithmetic, device, self.augmentation, len(self.classes)
        )

    def state(self, config: TrainConfig, work: Workspace) -> TrainState:
        """Return the state at the start, or that of the last sound checkpoint in `work`, which rank 0 has locked.

        If ranks read different checkpoints, that is a UserError.
        """
        state = self.initial_state(config)
        all_gather(torch.tensor(0))  # from here on rank 0 has locked the workspace, and no other process writes there
        work.restore(state)
        steps = [int(step) for step in all_gather(torch.tensor(state.step))]
        if min(steps) < max(steps):
            raise UserError(
                f"ranks would go on from different steps, {steps}; share {work.folder.parent} among the machines"
            )
        if rank() == 0:
            work.settle()
        return state

    def train_without_recording(self, config: TrainConfig) -> None:
        """Train to the end as a rank that writes nothing."""
        for _ in self.steps(self.state(config, Workspace(self.key(config)))):
            pass

    def steps(self, state: TrainState, work: Workspace | None = None) -> Iterator[Report]:
        """Advance a state, in place, to the end; yield one report a step.

        In `work`, if given, the averaged generator is kept after each of `snapshot_steps`, and a checkpoint is saved
        every `checkpoint_every` steps and `SAVED_EVERY` seconds, and after the last step. At a signal that asks this
        process to end, it saves one after the present step and raises Stopped; ranks without `work` get no further, as
        every step needs all. If a batch does not fit into the device's memory, the UserError names a size that does.
        """
        config, batches, kept = state.config, self.batches(state), state.config.snapshot_steps
        try:
            step = self.execution.step(lambda how: print(f"steps are computed {how}"))
            saved = time.monotonic()
            with deferred():
                for report in train(state, batches, step):
                    yield report
                    if work and report.step in kept:  # before the checkpoint, after which none is made
                        snapshot = snapshot_path(work.snapshots, report.step)
                        self.save(snapshot, state)
                        work.note(snapshot)
                    last = report.step == config.steps
                    stopping = work is not None and asked_to_stop() and not last
                    late = time.monotonic() - saved > SAVED_EVERY
                    if work and (late or stopping or last or report.step % config.checkpoint_every == 0):
                        work.save(state)
                        saved = time.monotonic()
                    if stopping:
                        stop(report.step, config.steps, f" of seed {config.seed}" if self.stage == "replicate" else "")
        except torch.OutOfMemoryError:
            too_large = True
        else:
            too_large = False
        if too_large:  # here, because the error no longer refers to the tensors of the step that failed
            torch.cuda.empty_cache()
            tried = state.arithmetic.micro_batches
            with local_only():  # the other ranks are at another step, so this one tries whole batches
                parts = fitting_parts(state, self.batches(state))  # anew: rows of this rank may be gathered ahead
            raise UserError(_remedy(config, tried, parts))


def _remedy(config: TrainConfig, tried: int, parts: int | None) -> str:
    """Return what to do if the `tried`-th part of a rank's rows is too much, and the `parts`-th of a batch is not."""
    ranks = world_size()
    message = f"a batch of {config.batch_size // (tried * ranks)} images does not fit into the memory of the GPU"
    if parts is None:
        return f"{message}, and neither does a single one; make the networks smaller"
    fitting, rows = config.batch_size // parts, config.batch_size // ranks
    counts = (count for count in range(tried + 1, rows + 1) if rows % count == 0 and count * ranks >= parts)
    return (
        f"{message}; one of {fitting} does: in params.yaml set train.batch_size to {fitting * ranks}, or keep it and "
        f"set execution.micro_batches to {next(counts, rows)}"
    )
