"""The stage `retrain`: the same training under other seeds, which tells a better way to train from a lucky seed."""

from dataclasses import replace
from pathlib import Path

from gan_core.checkpoints import save_checkpoint
from gan_core.config import ComputeConfig, ExecutionConfig, NetworkConfig, TrainConfig
from gan_core.ranks import own
from gan_core.state import TrainState
from gan_core.training import NonFiniteLossError, Report
from gan_core.weights import save_generator
from stages.errors import StageError
from stages.game import Game
from stages.params import RetrainConfig
from stages.progress import progress
from stages.results import save_json
from stages.workspace import Workspace


def retrain(
    prepared: Path,
    retrained: Path,
    *,
    compute: ComputeConfig,
    execution: ExecutionConfig,
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
        execution: precision, processes and parts of a batch.
        network: both players.
        train: Algorithm 1's numbers.
        retrain: how many seeds.

    Raises:
        StageError: a loss is not finite, or the same training runs already.
    """
    game = Game(prepared, compute, execution, network)
    works = []
    for seed in range(train.seed + 1, train.seed + 1 + retrain.seeds):
        config = replace(train, seed=seed)
        if own() > 0:
            game.follow(config, retrain="yes")
            continue
        with Workspace(game.key(config, retrain="yes")) as work:
            state = game.state(config, work)
            _play(config, state, game, work)
            works.append((work, seed, state.ema_generator))
    if own() > 0:
        return
    save_json(retrained / "seeds.json", {"seeds": [seed for _, seed, _ in works]})
    for work, seed, generator in works:
        path = retrained / f"{seed}.safetensors"
        save_generator(path, generator, network, size=game.summary.size, channels=game.summary.channels)
        work.discard()


def _play(config: TrainConfig, state: TrainState, game: Game, work: Workspace) -> None:
    """Play to the end; the last checkpoint is that of the end, so that a finished training is not repeated."""
    with progress(f"retrain: steps of seed {config.seed}", config.steps, state.step) as line:
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
        raise StageError(f"the training with train.seed {seed} stopped: {error}") from None
