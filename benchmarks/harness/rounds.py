"""Times of whole processes, taken in turns so that a machine whose speed changes is fair to all."""

import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from typing import ParamSpec, TypeVar

from mlops.project.progress import progress

Times = dict[str, list[float]]
"""Of each way a figure per round: seconds, or a speed."""
Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


def in_own_process(
    function: Callable[Arguments, Result], *arguments: Arguments.args, **named: Arguments.kwargs
) -> Result:
    """Return what a function returns in a new process, which inherits no memory and no settings, and leaves none."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
        return process.submit(function, *arguments, **named).result()


def seconds(command: Sequence[str], folder: Path, environment: Mapping[str, str], *, says: str = "") -> float:
    """Return how long a process takes from its start to its end.

    Args:
        command: program and arguments.
        folder: where it runs.
        environment: all of its variables.
        says: what must be in its output; "" where it must end without an error.

    Returns:
        Wall time.

    Raises:
        RuntimeError: it ended otherwise, so the time would be that of something else.
    """
    started = time.perf_counter()
    ended = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    taken = time.perf_counter() - started
    printed = ended.stdout + ended.stderr
    if says not in printed or (not says and ended.returncode):
        raise RuntimeError(f"{' '.join(command)} ended with {ended.returncode}: {printed[-1000:]}")
    return taken


def in_turns(what: str, ways: Mapping[str, Callable[[], float]], rounds: int) -> Times:
    """Return what several ways take or give, each once in every round, after a round that does not count."""
    times: Times = {name: [] for name in ways}
    with progress(f"{what}: rounds", rounds + 1) as line:
        for number in range(rounds + 1):
            for name, way in ways.items():
                taken = way()
                if number:
                    times[name].append(taken)
            line.update(number + 1)
    return times


def ratio(times: Times, way: str, other: str) -> float:
    """Return the median over rounds of one way's figure divided by another's."""
    return median(mine / theirs for mine, theirs in zip(times[way], times[other], strict=True))


def difference(times: Times, way: str, other: str) -> float:
    """Return the median over rounds of how many seconds longer one way takes than another."""
    return median(mine - theirs for mine, theirs in zip(times[way], times[other], strict=True))
