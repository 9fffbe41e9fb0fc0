"""The stage `replicate`: the same training under other seeds, which tells a better way to train from a lucky seed."""

from dataclasses import replace
from pathlib import Path

from gan_core.config import ComputeConfig, ExecutionConfig, NetworkConfig, TrainConfig
from gan_core.generation.generator_file import save_generator
from gan_core.runtime.distributed import rank
from gan_core.training.checkpoints import save_checkpoint
from gan_core.training.loop import NonFiniteLossError, Report
from gan_core.training.state import TrainState
from mlops.project.errors import UserError
from mlops.project.params import ReplicateConfig
from mlops.project.progress import progress
from mlops.project.result_files import save_json
from mlops.runs.run import TrainingRun
from mlops.runs.workspace import Workspace


def replicate(
    prepared: Path,
    replicas: Path,
    *,
    compute: ComputeConfig,
    execution: ExecutionConfig,
    network: NetworkConfig,
    train: TrainConfig,
    replicate: ReplicateConfig,
) -> None:
    """Write the averaged generators of trainings that differ from that of `train` in their seed alone.

    A training that was stopped goes on from its last checkpoint, as that of `train` does.

    Args:
        prepared: what `prepare` wrote.
        replicas: new; a folder with SEED.safetensors for the `replicate.seeds` seeds that follow `train.seed`, and
            `seeds.json`, their list.
        compute: device and threads.
        execution: precision, processes and parts of a batch.
        network: both players.
        train: Algorithm 1's numbers.
        replicate: how many seeds.

    Raises:
        UserError: a loss is not finite, or the same training runs already.
    """
    game = TrainingRun("replicate", prepared, compute, execution, network)
    works = []
    for seed in range(train.seed + 1, train.seed + 1 + replicate.seeds):
        config = replace(train, seed=seed)
        if rank() > 0:
            game.follow(config)
            continue
        with Workspace(game.key(config)) as work:
            state = game.state(config, work)
            _play(config, state, game, work)
            works.append((work, seed, state.ema_generator))
    if rank() > 0:
        return
    save_json(replicas / "seeds.json", {"seeds": [seed for _, seed, _ in works]})
    for work, seed, generator in works:
        path = replicas / f"{seed}.safetensors"
        save_generator(path, generator, network, size=game.summary.size, channels=game.summary.channels)
        work.discard()


def _play(config: TrainConfig, state: TrainState, game: TrainingRun, work: Workspace) -> None:
    """Play to the end; the last checkpoint is that of the end, so that a finished training is not repeated."""
    with progress(f"replicate: steps of seed {config.seed}", config.steps, state.step) as line:
        for played in game.play(config, state):
            last = played.step == config.steps
            if played.step % config.report_every == 0 or last:
                line.update(played.step, f"d_loss {_read(played, config.seed)['d_loss']:.3f}")
            if played.step % config.checkpoint_every == 0 or last:
                save_checkpoint(work.checkpoint, state, config)


def _read(played: Report, seed: int) -> dict[str, float]:
    try:
        return played.read()
    except NonFiniteLossError as error:
        raise UserError(f"the training with train.seed {seed} stopped: {error}") from None
