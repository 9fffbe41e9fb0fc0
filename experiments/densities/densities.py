"""Play on known densities and measure what was learned.

An experiment of its own, beside the stages of the main pipeline: it has its own parameter file, which is its input.
"""

import math
import multiprocessing
import signal
import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from multiprocessing.queues import SimpleQueue
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from experiments.densities.config import DensityParams, GameConfig, MeasureConfig, load_density_params
from gan_core.runtime.randomness import stream
from gan_core.theory.densities import LINES, PLANES, Coverage, Density, GaussianMixture, coverage
from gan_core.theory.density_game import Standing, generated, gradients_as_confidence_grows, standing
from gan_core.theory.point_networks import build_players
from gan_core.training.loop import NonFiniteLossError
from gan_core.training.loop import train as play
from gan_core.training.state import TrainState, state_of
from mlops.project.errors import UserError
from mlops.project.progress import Line, progress
from mlops.project.result_files import save_json

DIGITS = 6
"""Significant digits of what is only drawn: half the file, and nothing that an eye could see."""
Outcome = tuple[dict[str, Any], dict[str, float]]
"""What pictures are drawn from, and the figures of the end."""

_steps_played: "SimpleQueue[int]"


def densities(params: Path, results: Path, metrics: Path) -> None:
    """Play on each density, side by side in `workers` processes of one thread, and measure.

    The same parameters give the same bytes, with any number of workers.

    Args:
        params: the experiment's numbers, as `load_density_params` checks them.
        results: new; JSON with all curves, densities and points that the pictures show.
        metrics: new; JSON with the figures at the end, by density.

    Raises:
        UserError: wrong parameters, a loss that is not finite, or a worker that died.
    """
    values = load_density_params(params)
    drawn, measured = _side_by_side(values)
    save_json(results, drawn)
    save_json(metrics, measured)


def _side_by_side(values: DensityParams) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return what pictures are drawn from, and the figures of the end, both by density."""
    games = values.games()
    longest_first = sorted(games, key=lambda name: _work(games[name]), reverse=True)
    context = multiprocessing.get_context("spawn")
    queue = context.SimpleQueue()
    total = sum(game.train.steps for game in games.values())
    with context.Pool(values.workers, _start_worker, (queue,)) as pool, progress("densities: steps", total) as line:
        outcomes = [pool.apply_async(_job, (name, games[name], values.measure)) for name in longest_first]
        gradients = pool.apply_async(_gradients, (values,))
        _wait([*outcomes, gradients], queue, line)
        found = dict(zip(longest_first, [outcome.get() for outcome in outcomes], strict=True))
        drawn = {name: found[name][0] for name in games} | {"gradients": gradients.get()}
    return drawn, {name: found[name][1] for name in games}


def _wait(results: list[Any], queue: "SimpleQueue[int]", line: Line) -> None:
    """Show progress until all results are there; raise the error of one that fails, or that a worker died."""
    done, started = 0, {worker.pid for worker in multiprocessing.active_children()}
    while not all(result.ready() for result in results):
        time.sleep(0.2)
        while not queue.empty():
            done += queue.get()
        line.update(done)
        for result in results:
            if result.ready():
                result.get()  # raises its error now, not when the longest game is over
        if {worker.pid for worker in multiprocessing.active_children()} != started:
            raise UserError("a worker died, perhaps for lack of memory; run again, or with fewer workers")


def _work(game: GameConfig) -> float:
    width = game.network.generator_width + game.network.discriminator_width
    return game.train.steps * game.train.batch_size * width


def _start_worker(queue: "SimpleQueue[int]") -> None:
    global _steps_played
    _steps_played = queue
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which ends its workers
    torch.set_num_threads(1)


def _job(name: str, game: GameConfig, measure: MeasureConfig) -> Outcome:
    try:
        if name in LINES:
            return _line(LINES[name], game, measure)
        return _plane(PLANES[name], game, measure)
    except NonFiniteLossError as error:
        raise UserError(f"{name}: training stopped: {error}") from None


def _played(density: Density, game: GameConfig, measure: MeasureConfig) -> Iterator[TrainState]:
    """Yield the state before the first step, whenever something is measured or shown, and after the last step."""
    config = game.train
    players = build_players(game.network, dimensions=density.dimensions, octaves=game.octaves, seed=config.seed)
    state = state_of(config, game.network, *players)
    yield state
    told = 0
    for report in play(config, state, density.sample(measure.points, stream(config.seed, "points"))):
        step, last = report.step, report.step == config.steps
        if step % config.report_every == 0 or step == config.sample_every or last:
            report.read()
            _steps_played.put(step - told)
            told = step
            yield state


def _is_shown(step: int, game: GameConfig) -> bool:
    return step in (0, game.train.sample_every, game.train.steps)


def _line(density: Density, game: GameConfig, measure: MeasureConfig) -> Outcome:
    curves: dict[str, list[float]] = {"step": [], "value": [], "bound": []}
    shown = []

    def now(state: TrainState, generator: torch.nn.Module, count: int) -> Standing:
        return standing(
            density,
            state.discriminator,
            generator,
            game.network,
            cells=measure.cells,
            count=count,
            seed=game.train.seed,
        )

    for state in _played(density, game, measure):
        found = now(state, state.generator, measure.samples_on_the_way)
        curves["step"].append(state.step)
        curves["value"].append(found.value)
        curves["bound"].append(found.bound)
        if _is_shown(state.step, game):
            end = now(state, state.generator, measure.samples)
            shown.append({"step": state.step} | _arrays(end))
    of_ema = now(state, state.ema_generator, measure.samples)
    figures = {
        "jsd": end.jsd,
        "jsd_of_ema": of_ema.jsd,
        "d_error": end.d_error,
        "value_plus_log_4": end.value + math.log(4),
        "value_standard_error": end.value_standard_error,
    }
    return {"curves": curves, "shown": shown}, figures


def _arrays(found: Standing) -> dict[str, Any]:
    names = ("x", "p_data", "p_g", "d_prob", "d_star_prob")
    return {name: _rounded(getattr(found, name)) for name in names}


def _plane(density: GaussianMixture, game: GameConfig, measure: MeasureConfig) -> Outcome:
    real = density.sample(measure.samples_on_the_way, stream(game.train.seed, "measured real"))
    shown = []
    for state in _played(density, game, measure):
        if _is_shown(state.step, game):
            last = state.step == game.train.steps
            count = measure.samples if last else measure.samples_on_the_way
            points = generated(state.ema_generator, game.network, count, game.train.seed)
            found = coverage(density, points)
            shown.append({"step": state.step} | _points(points, found, measure))
    return {"real": _points(real, coverage(density, real), measure), "shown": shown}, asdict(found)


def _points(points: Tensor, found: Coverage, measure: MeasureConfig) -> dict[str, Any]:
    return {"points": _rounded(points[: measure.shown])} | asdict(found)


def _gradients(values: DensityParams) -> list[dict[str, Any]]:
    game, numbers = values.gaussian, values.gradients
    readings = gradients_as_confidence_grows(
        replace(game.train, discriminator_learning_rate=numbers.learning_rate),
        game.network,
        LINES["gaussian"],
        shift=numbers.shift,
        steps=numbers.steps,
        every=numbers.every,
    )
    return [asdict(reading) for reading in readings]


def _rounded(values: Tensor) -> Any:
    if values.ndim > 1:
        return [_rounded(row) for row in values]
    return [float(f"{value:.{DIGITS}g}") for value in values.tolist()]
