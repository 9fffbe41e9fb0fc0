"""The stage `retrain`: the same training under other seeds, which tells a better way to train from a lucky seed."""

from dataclasses import asdict, replace
from pathlib import Path

import torch

import gan_core
from gan_core.checkpoints import restore_checkpoint, save_checkpoint
from gan_core.config import ComputeConfig, NetworkConfig, TrainConfig
from gan_core.device import pick_device
from gan_core.training import NonFiniteLossError, Report, TrainState, initial_state
from gan_core.training import train as play
from gan_core.weights import save_generator
from stages.errors import StageError
from stages.lineage import code_sha256, dvc_md5
from stages.params import RetrainConfig
from stages.prepared import load_images, load_summary
from stages.progress import progress
from stages.results import save_json
from stages.workspace import Workspace, training_key


def retrain(
    prepared: Path,
    retrained: Path,
    *,
    compute: ComputeConfig,
    network: NetworkConfig,
    train: TrainConfig,
    retrain: RetrainConfig,
) -> None:
    """Write the averaged generators of trainings that differ from that of `train` in their seed alone.

    A training that was stopped goes on from its last checkpoint, as that of `train` does.

    Args:
        prepared: what `prepare` wrote.
        retrained: new; a folder with SEED.safetensors for the `retrain.seeds` seeds that follow `train.seed`, and
            `seeds.json`, their list.
        compute: device and threads.
        network: both players.
        train: Algorithm 1's numbers.
        retrain: how many seeds.

    Raises:
        StageError: a loss is not finite, or the same training runs already.
    """
    device, summary = pick_device(compute), load_summary(prepared)
    images = torch.tensor(load_images(prepared, "train"), device=device)
    works = []
    for seed in range(train.seed + 1, train.seed + 1 + retrain.seeds):
        config = replace(train, seed=seed)
        parameters = {"compute": asdict(compute), "network": asdict(network), "train": asdict(config)}
        made_by = {
            "gan_core": code_sha256(Path(gan_core.__file__).parent),
            "torch": torch.__version__,
            "retrain": "yes",
        }
        with Workspace(training_key(parameters, dvc_md5(prepared), made_by)) as work:
            state = initial_state(config, network, images)
            _play(config, state, images, work)
            works.append((work, seed, state.ema_generator))
    save_json(retrained / "seeds.json", {"seeds": [seed for _, seed, _ in works]})
    for work, seed, generator in works:
        path = retrained / f"{seed}.safetensors"
        save_generator(path, generator, network, size=summary.size, channels=summary.channels)
        work.discard()


def _play(config: TrainConfig, state: TrainState, images: torch.Tensor, work: Workspace) -> None:
    """Play to the end; the last checkpoint is that of the end, so that a finished training is not repeated."""
    if work.checkpoint.exists():
        restore_checkpoint(work.checkpoint, state, config)
    with progress(f"retrain: steps of seed {config.seed}", config.steps, state.step) as line:
        for played in play(config, state, images):
            last = played.step == config.steps
            if played.step % config.report_every == 0 or last:
                line.update(played.step, f"d_loss {_read(played, config.seed)['d_loss']:.3f}")
            if played.step % config.checkpoint_every == 0 or last:
                save_checkpoint(work.checkpoint, state, config)


def _read(played: Report, seed: int) -> dict[str, float]:
    try:
        return played.read()
    except NonFiniteLossError as error:
        raise StageError(f"the training with train.seed {seed} stopped: {error}") from None
