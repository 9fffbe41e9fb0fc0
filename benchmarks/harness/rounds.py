"""Times of whole processes, taken in turns, so that a machine whose speed changes affects all alike."""

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
"""A figure per round, by way: seconds, or a speed."""
Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


def in_own_process(
    function: Callable[Arguments, Result], *arguments: Arguments.args, **named: Arguments.kwargs
) -> Result:
    """Return the result of a function in a new process, which inherits no memory and no settings."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
        return process.submit(function, *arguments, **named).result()


def seconds(command: Sequence[str], folder: Path, environment: Mapping[str, str], *, output: str = "") -> float:
    """Return how long a process takes from its start to its end.

    Args:
        command: program and arguments.
        folder: where it runs.
        environment: all of its variables.
        output: what it must print; "" if it must end without an error.

    Returns:
        Wall time.

    Raises:
        RuntimeError: it ended otherwise, so its time is that of something else.
    """
    started = time.perf_counter()
    process = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    elapsed = time.perf_counter() - started
    printed = process.stdout + process.stderr
    if output not in printed or (not output and process.returncode):
        raise RuntimeError(f"{' '.join(command)} ended with {process.returncode}: {printed[-1000:]}")
    return elapsed


def in_turns(title: str, ways: Mapping[str, Callable[[], float]], rounds: int) -> Times:
    """Return the figures of several ways, each measured once in every round, after a warm-up round."""
    times: Times = {name: [] for name in ways}
    with progress(f"{title}: rounds", rounds + 1) as line:
        for number in range(rounds + 1):
            for name, way in ways.items():
                figure = way()
                if number:
                    times[name].append(figure)
            line.update(number + 1)
    return times


def ratio(times: Times, way: str, other: str) -> float:
    """Return the median over rounds of one way's figure divided by another's."""
    return median(one / two for one, two in zip(times[way], times[other], strict=True))


def difference(times: Times, way: str, other: str) -> float:
    """Return the median over rounds of how many seconds longer one way takes than another."""
    return median(one - two for one, two in zip(times[way], times[other], strict=True))
