"""The stage `replicate`: the same training under other seeds, by which seed-to-seed variance is measured."""

from dataclasses import replace
from pathlib import Path

from gan_core.config import AugmentationConfig, ComputeConfig, ExecutionConfig, NetworkConfig, TrainConfig
from gan_core.runtime.distributed import rank
from gan_core.training.loop import NonFiniteLossError
from gan_core.training.state import TrainState
from mlops.project.errors import UserError
from mlops.project.params import ReplicateConfig
from mlops.project.progress import progress
from mlops.project.result_files import save_json
from mlops.runs.run import TrainingRun
from mlops.runs.workspace import Workspace
from mlops.safety.new_outputs import Output


def replicate(
    prepared: Path,
    snapshots: Output,
    *,
    compute: ComputeConfig,
    execution: ExecutionConfig,
    network: NetworkConfig,
    augmentation: AugmentationConfig,
    train: TrainConfig,
    replicate: ReplicateConfig,
) -> None:
    """Write snapshots of trainings that differ from that of `train` in their seed alone, at the same steps.

    A training that was stopped is resumed from its last checkpoint, and one that is finished is kept, as that of
    `train` is.

    Args:
        prepared: what `prepare` wrote.
        snapshots: new; a folder with a folder SEED, as `train` writes one, for each of the `replicate.seeds` seeds that
            follow `train.seed`, and `seeds.json`, their list.
        compute: device and threads.
        execution: precision, processes and parts of a batch.
        network: generator and discriminator.
        augmentation: of what the discriminator is trained on.
        train: Algorithm 1's numbers.
        replicate: how many seeds.

    Raises:
        UserError: a loss is not finite, or the same training runs already.
    """
    run = TrainingRun("replicate", prepared, compute, execution, network, augmentation)
    finished = []
    for seed in range(train.seed + 1, train.seed + 1 + replicate.seeds):
        config = replace(train, seed=seed)
        if rank() > 0:
            run.train_without_recording(config)
            continue
        with Workspace(run.key(config)) as work:
            state = run.state(config, work)
            _train(state, run, work)
            finished.append((seed, work))
    if rank() > 0:
        return
    save_json(snapshots / "seeds.json", {"seeds": [seed for seed, _ in finished]})
    for seed, work in finished:
        work.hand_over(work.snapshots, snapshots / str(seed))
    for _, work in finished:
        work.note_made(snapshots)


def _train(state: TrainState, run: TrainingRun, work: Workspace) -> None:
    config = state.config
    with progress(f"replicate: steps of seed {config.seed}", config.steps, state.step) as line:
        for report in run.steps(state, work):
            if report.step % config.report_every == 0 or report.step == config.steps:
                try:
                    losses = report.read()
                except NonFiniteLossError as error:
                    raise UserError(f"the training with train.seed {config.seed} stopped: {error}") from None
                line.update(report.step, f"d_loss {losses['d_loss']:.3f}")
