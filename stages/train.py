"""The stage `train`: train, record it, and never lose more than what came after the last checkpoint.

A finished training is kept, too (`mlops.runs.kept_work`): if DVC does not record the outputs, the next run writes them
again without training.
"""

import platform
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gan_core.config import AugmentationConfig, ComputeConfig, DoctorConfig, ExecutionConfig, NetworkConfig, TrainConfig
from gan_core.generation.generate import generate
from gan_core.generation.labels import grid_bank
from gan_core.runtime.distributed import rank
from gan_core.runtime.tensor_files import write_atomically
from gan_core.training.state import TrainState
from mlops.figures.grids import grid, png_bytes
from mlops.project.errors import UserError
from mlops.project.progress import progress
from mlops.project.result_files import HISTORY, SAMPLES, SPEED, TRAINING, grid_path, load_history, save_json
from mlops.runs.monitor import TrainingMonitor, columns
from mlops.runs.run import TrainingRun
from mlops.runs.workspace import Workspace
from mlops.safety.new_outputs import Output
from mlops.tracking.live_run import LiveRun

SHOWN = ("d_loss", "g_loss", "real_prob", "fake_prob", "unseen_prob", "variety")
"""Columns that the progress line shows."""
GRID_COLUMNS, GRID_ROWS = 10, 10


def train(
    prepared: Path,
    snapshots: Output,
    training: Output,
    *,
    compute: ComputeConfig,
    execution: ExecutionConfig,
    network: NetworkConfig,
    augmentation: AugmentationConfig,
    train: TrainConfig,
    doctor: DoctorConfig,
) -> None:
    """Train to the end, resuming from the checkpoint of a stopped run with the same parameters, data and code.

    Args:
        prepared: what `prepare` wrote.
        snapshots: new; a folder with `train.snapshots` averaged generators, `step_STEP.safetensors`, evenly spaced over
            the steps, the last included.
        training: new; a folder with `history.csv` (a row every `report_every` steps; the same bytes for the same
            inputs), `samples/` (grids), `training.json` (key, parameters, data, device) and `speed.json`.
        compute: device and threads.
        execution: precision, processes and parts of a batch.
        network: generator and discriminator.
        augmentation: of what the discriminator is trained on.
        train: Algorithm 1's numbers.
        doctor: which readings are a failure, and whether one ends the training; no output of others depends on it.

    Raises:
        UserError: a loss is not finite, the doctor stops the training, a batch does not fit into memory, the same
            training runs already, or an output exists.
    """
    for output in (snapshots, training):
        if output.exists():
            raise UserError(f"{output} exists; remove it (`dvc repro` does so by itself)")
    run = TrainingRun("train", prepared, compute, execution, network, augmentation)
    if rank() > 0:
        run.train_without_recording(train)
        return
    print(f"train: {run.execution.summary(run.images)}")
    facts = _facts(run, train, execution)
    with Workspace(facts["key"]) as work:
        state = run.state(train, work)
        _print_start(state, work)
        with LiveRun(facts, prepared) as live:
            monitor = TrainingMonitor(state, doctor, run.instruments(state), live)
            speed = _train_and_record(state, run, work, monitor)
        work.hand_over(work.snapshots, snapshots)
        _write_folder(training, facts, speed, work)
        work.note_made(snapshots, training)


def _print_start(state: TrainState, work: Workspace) -> None:
    if state.step == state.config.steps:
        print(f"train: finished already, and kept in {work.folder}")
    elif state.step:
        print(f"train: going on from step {state.step} of {state.config.steps} ({work.checkpoint})")


def _facts(run: TrainingRun, config: TrainConfig, execution: ExecutionConfig) -> dict[str, Any]:
    return {
        "key": run.key(config),
        "data_md5": run.data_md5,
        "parameters": run.parameters(config) | {"execution": asdict(execution)},
        "device": _device_name(run.execution.device),
        "precision": "bf16" if run.execution.arithmetic.bf16 else "fp32",
    }


def _train_and_record(
    state: TrainState, run: TrainingRun, work: Workspace, monitor: TrainingMonitor
) -> dict[str, float]:
    """Train to the end; return seconds, images per second and steps, of all runs that took part."""
    config = state.config
    shape = {"columns": GRID_COLUMNS, "rows": GRID_ROWS}
    bank = grid_bank(state.network, len(run.classes), seed=config.seed, **shape)
    first = state.step
    with (
        work.open_history(columns(state)) as rows,
        progress("train: steps", config.steps, first) as line,
    ):
        for past in load_history(work.history):
            monitor.diagnose(past)
        if first == 0:
            _record_grid(state, bank, work, monitor.live)
        for report in run.steps(state, work):
            last = report.step == config.steps
            if report.step % config.report_every == 0 or last:
                row = monitor.read(report, state)
                rows.writerow(row)
                line.update(report.step, "  ".join(f"{name} {row[name]:.3f}" for name in SHOWN))
            if report.step % config.sample_every == 0 or last:
                _record_grid(state, bank, work, monitor.live)
    monitor.close()
    images_seen = config.steps * config.batch_size * config.discriminator_steps
    seconds = work.seconds
    return {"seconds": seconds, "images_per_second": images_seen / seconds, "steps": config.steps}


def _write_folder(training: Path, facts: dict[str, Any], speed: dict[str, float], work: Workspace) -> None:
    save_json(training / TRAINING, facts)
    save_json(training / SPEED, speed)
    shutil.copyfile(work.history, training / HISTORY)
    work.hand_over(work.samples, training / SAMPLES)


def _record_grid(state: TrainState, bank: tuple[Tensor, Tensor | None], work: Workspace, live: LiveRun) -> None:
    picture = grid(generate(state.ema_generator, *bank).numpy(), GRID_COLUMNS)
    path = grid_path(work.samples, state.step)
    write_atomically(path, png_bytes(picture))
    work.note(path)
    live.log_grid(picture, state.step)


def _device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{platform.machine()} CPU, {torch.get_num_threads()} thread(s)"
