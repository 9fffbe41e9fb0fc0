"""The stage `train`: play the game, record it, and never lose more than what came after the last checkpoint."""

import platform
import shutil
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

import gan_core
from gan_core.checkpoints import restore_checkpoint, save_checkpoint
from gan_core.config import ComputeConfig, NetworkConfig, TrainConfig
from gan_core.device import pick_device
from gan_core.sampling import generate, z_bank
from gan_core.tensor_files import write_atomically
from gan_core.training import NonFiniteLossError, Report, TrainState, initial_state
from gan_core.training import train as play
from gan_core.weights import save_generator
from stages.errors import StageError
from stages.lineage import code_sha256, dvc_md5
from stages.pictures import grid, png_bytes
from stages.prepared import load_images, load_summary
from stages.progress import progress
from stages.results import HISTORY, SAMPLES, SPEED, TRAINING, grid_path, save_json
from stages.tracking import LiveRun
from stages.workspace import Workspace, training_key

COLUMNS = ("step", "images_seen", "d_loss", "g_loss", "real_prob", "fake_prob")
"""Of history.csv: losses in nats, mean D(x) and D(G(z))."""
GRID_COLUMNS, GRID_IMAGES = 10, 100


def train(
    prepared: Path,
    generator: Path,
    training: Path,
    *,
    compute: ComputeConfig,
    network: NetworkConfig,
    train: TrainConfig,
) -> None:
    """Train to the end, or go on from where a stopped run with the same parameters and data left a checkpoint.

    Args:
        prepared: what `prepare` wrote.
        generator: new; the averaged generator, safetensors.
        training: new; a folder with `history.csv` (a row every `report_every` steps; the same bytes for the same
            inputs), `samples/` (a grid before the first step and every `sample_every` steps), `training.json` (key,
            parameters, data, device) and `speed.json`.
        compute: device and threads.
        network: both players.
        train: Algorithm 1's numbers.

    Raises:
        StageError: a loss is not finite, or the same training runs already.
    """
    device = pick_device(compute)
    summary = load_summary(prepared)
    images = torch.tensor(load_images(prepared, "train"), device=device)
    parameters = {"compute": asdict(compute), "network": asdict(network), "train": asdict(train)}
    data_md5 = dvc_md5(prepared)
    made_by = {
        "gan_core": code_sha256(Path(gan_core.__file__).parent),
        "torch": torch.__version__,
        "device": device.type,
    }
    key = training_key(parameters, data_md5, made_by)
    state = initial_state(train, network, images)
    with Workspace(key) as work:
        if work.checkpoint.exists():
            restore_checkpoint(work.checkpoint, state, train)
            print(f"train: going on from step {state.step} of {train.steps} ({work.checkpoint})")
        facts = {"key": key, "data_md5": data_md5, "parameters": parameters, "device": _device_name(device)}
        speed = _play_and_record(train, state, images, work, facts, prepared)
        generator.parent.mkdir(parents=True, exist_ok=True)
        save_generator(generator, state.ema_generator, network, size=summary.size, channels=summary.channels)
        save_json(training / TRAINING, facts)
        save_json(training / SPEED, speed)
        shutil.copy(work.history, training / HISTORY)
        shutil.copytree(work.samples, training / SAMPLES)
        work.discard()


def _play_and_record(
    config: TrainConfig, state: TrainState, images: torch.Tensor, work: Workspace, facts: dict[str, Any], prepared: Path
) -> dict[str, float]:
    """Play to the end; return how long it took and how fast it was, since the start or the last resume."""
    bank = z_bank(state.network, seed=config.seed, count=GRID_IMAGES)
    first, started = state.step, time.monotonic()
    with (
        LiveRun(facts, prepared) as live,
        work.open_history(COLUMNS, keep_to=first) as rows,
        progress("train: steps", config.steps, first) as line,
    ):
        if first == 0:
            _record_grid(state, bank, work, live)
        for played in play(config, state, images):
            step, last = played.step, played.step == config.steps
            if step % config.report_every == 0 or last:
                row = _row(config, played)
                rows.writerow(row)
                live.log_row(row)
                line.update(step, "  ".join(f"{name} {row[name]:.3f}" for name in COLUMNS[2:]))
            if step % config.sample_every == 0 or last:
                _record_grid(state, bank, work, live)
            if step % config.checkpoint_every == 0 and not last:
                save_checkpoint(work.checkpoint, state, config)
    seconds = time.monotonic() - started
    images_seen = (config.steps - first) * config.batch_size * config.discriminator_steps
    return {"seconds": seconds, "images_per_second": images_seen / seconds, "steps": config.steps}


def _record_grid(state: TrainState, bank: torch.Tensor, work: Workspace, live: LiveRun) -> None:
    picture = grid(generate(state.ema_generator, bank).numpy(), GRID_COLUMNS)
    write_atomically(grid_path(work.samples, state.step), png_bytes(picture))
    live.log_grid(picture, state.step)


def _row(config: TrainConfig, played: Report) -> dict[str, float]:
    try:
        numbers = played.read()
    except NonFiniteLossError as error:
        raise StageError(f"training stopped: {error}") from None
    return {"step": played.step, "images_seen": played.step * config.batch_size * config.discriminator_steps} | numbers


def _device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{platform.machine()} CPU, {torch.get_num_threads()} thread(s)"
