"""Train on known densities and measure what was learned.

An experiment of its own, beside the stages of the main pipeline: its own parameter file is its input.
"""

import math
import multiprocessing
import signal
from collections.abc import Iterator
from concurrent.futures import FIRST_EXCEPTION, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from experiments.densities.config import NAMES, DensityParams, GameConfig, MeasureConfig, load_density_params
from gan_core.runtime.randomness import stream
from gan_core.theory.densities import LINES, PLANES, Coverage, Density, coverage
from gan_core.theory.density_game import Snapshot, generated_points, gradients_as_confidence_grows, snapshot
from gan_core.theory.point_networks import build_players
from gan_core.training.loop import NonFiniteLossError, train
from gan_core.training.state import TrainState, state_of
from mlops.project.errors import UserError
from mlops.project.progress import progress
from mlops.project.result_files import save_json
from mlops.safety.new_outputs import Output

DIGITS = 6
"""Significant digits of what is only drawn: half the file, and no difference in a picture."""
Outcome = tuple[dict[str, Any], dict[str, float]]
"""What pictures are drawn from, and the final metrics."""

_steps_done: Any
"""In a worker: the last step of each training, in the order of `NAMES`, in memory that the parent reads."""


def densities(params: Path, results: Output, metrics: Output) -> None:
    """Train on each density, side by side in `workers` processes of one thread, and measure.

    The same parameters give the same bytes, with any number of workers.

    Args:
        params: the experiment's numbers, as `load_density_params` checks them.
        results: new; JSON with all curves, densities and points that the pictures show.
        metrics: new; JSON with the final metrics, by density.

    Raises:
        UserError: wrong parameters, a loss that is not finite, or a worker that died.
    """
    values = load_density_params(params)
    drawn, measured = _side_by_side(values)
    save_json(results, drawn)
    save_json(metrics, measured)


def _side_by_side(values: DensityParams) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return what pictures are drawn from, and the final metrics, both by density."""
    games = values.games()
    longest_first = sorted(games, key=lambda name: _work(games[name]), reverse=True)
    context = multiprocessing.get_context("spawn")
    steps_done = context.RawArray("q", len(NAMES))
    with ProcessPoolExecutor(values.workers, context, _start_worker, (steps_done,)) as pool:
        trainings = {name: pool.submit(_job, name, games[name], values.measure) for name in longest_first}
        gradients = pool.submit(_gradients, values)
        _wait({*trainings.values(), gradients}, steps_done, sum(game.train.steps for game in games.values()))
    outcomes = {name: trainings[name].result() for name in games}
    drawn = {name: outcome[0] for name, outcome in outcomes.items()} | {"gradients": gradients.result()}
    return drawn, {name: outcome[1] for name, outcome in outcomes.items()}


def _wait(waiting: set[Future[Any]], steps_done: Any, total: int) -> None:
    """Show progress until all jobs are done; the first error, or a signal to this process, ends all workers."""
    try:
        with progress("densities: steps", total) as line:
            while waiting:
                done, waiting = wait(waiting, timeout=0.2, return_when=FIRST_EXCEPTION)
                line.update(sum(steps_done))
                for job in done:
                    job.result()
    except BrokenProcessPool:
        raise UserError("a worker died, perhaps for lack of memory; run again, or with fewer workers") from None
    except BaseException:
        for worker in multiprocessing.active_children():  # the pool would wait until their jobs are done
            worker.terminate()
        raise


def _work(game: GameConfig) -> float:
    width = game.network.generator_width + game.network.discriminator_width
    return game.train.steps * game.train.batch_size * width


def _start_worker(steps_done: Any) -> None:
    global _steps_done
    _steps_done = steps_done
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which ends its workers
    torch.set_num_threads(1)


def _job(name: str, game: GameConfig, measure: MeasureConfig) -> Outcome:
    try:
        return (_line if name in LINES else _plane)(name, game, measure)
    except NonFiniteLossError as error:
        raise UserError(f"{name}: training stopped: {error}") from None


def _states(name: str, density: Density, game: GameConfig, measure: MeasureConfig) -> Iterator[TrainState]:
    """Yield the state before the first step, whenever something is measured or shown, and after the last step."""
    config = game.train
    players = build_players(game.network, dimensions=density.dimensions, octaves=game.octaves, seed=config.seed)
    state = state_of(config, game.network, *players)
    yield state
    for report in train(state, density.sample(measure.points, stream(config.seed, "points"))):
        if report.step % config.report_every == 0 or report.step in (config.sample_every, config.steps):
            report.read()
            _steps_done[NAMES.index(name)] = report.step
            yield state


def _is_shown(step: int, game: GameConfig) -> bool:
    return step in (0, game.train.sample_every, game.train.steps)


def _line(name: str, game: GameConfig, measure: MeasureConfig) -> Outcome:
    curves: dict[str, list[float]] = {"step": [], "value": [], "bound": []}
    shown = []

    def measured(state: TrainState, generator: torch.nn.Module, count: int) -> Snapshot:
        players, seed = (state.discriminator, generator), game.train.seed
        return snapshot(LINES[name], *players, game.network, cells=measure.cells, count=count, seed=seed)

    for state in _states(name, LINES[name], game, measure):
        now = measured(state, state.generator, measure.samples_on_the_way)
        for curve, value in (("step", state.step), ("value", now.value), ("bound", now.bound)):
            curves[curve].append(value)
        if _is_shown(state.step, game):
            end = measured(state, state.generator, measure.samples)
            shown.append({"step": state.step} | _arrays(end))
    metrics = {
        "jsd": end.jsd,
        "jsd_of_ema": measured(state, state.ema_generator, measure.samples).jsd,
        "d_error": end.d_error,
        "value_plus_log_4": end.value + math.log(4),
        "value_standard_error": end.value_standard_error,
    }
    return {"curves": curves, "shown": shown}, metrics


def _arrays(now: Snapshot) -> dict[str, Any]:
    return {name: _rounded(getattr(now, name)) for name in ("x", "p_data", "p_g", "d_prob", "d_star_prob")}


def _plane(name: str, game: GameConfig, measure: MeasureConfig) -> Outcome:
    density, seed = PLANES[name], game.train.seed
    real = density.sample(measure.samples_on_the_way, stream(seed, "measured real"))
    shown = []
    for state in _states(name, density, game, measure):
        if _is_shown(state.step, game):
            count = measure.samples if state.step == game.train.steps else measure.samples_on_the_way
            points = generated_points(state.ema_generator, game.network, count, seed)
            covered = coverage(density, points)
            shown.append({"step": state.step} | _points(points, covered, measure))
    return {"real": _points(real, coverage(density, real), measure), "shown": shown}, asdict(covered)


def _points(points: Tensor, covered: Coverage, measure: MeasureConfig) -> dict[str, Any]:
    return {"points": _rounded(points[: measure.shown])} | asdict(covered)


def _gradients(values: DensityParams) -> list[dict[str, Any]]:
    game, config = values.gaussian, values.gradients
    readings = gradients_as_confidence_grows(
        replace(game.train, discriminator_learning_rate=config.learning_rate),
        game.network,
        LINES["gaussian"],
        shift=config.shift,
        steps=config.steps,
        every=config.every,
    )
    return [asdict(reading) for reading in readings]


def _rounded(values: Tensor) -> Any:
    if values.ndim > 1:
        return [_rounded(row) for row in values]
    return [float(f"{value:.{DIGITS}g}") for value in values.tolist()]
