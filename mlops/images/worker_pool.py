"""One function on many items, by several processes, with the results in the order of the items."""

import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context, parent_process
from typing import TypeVar

from mlops.images.memory import Budget, Kind, budgets, share
from mlops.project.errors import UserError

Item = TypeVar("Item")
Result = TypeVar("Result")
AHEAD = 4
"""Items for each process that are taken before the first result is read; so memory is bounded."""


def cores() -> int:
    """Return how many CPU cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def mapped(function: Callable[[Item], Result], items: Iterable[Item], *, processes: int) -> Iterator[Result]:
    """Yield the function's result for each item, in the order of the items, whatever the number of processes.

    Items are taken as processes become free. The processes are new ones that share no state with this one, so the
    function must be importable by name, or a `functools.partial` of such a one, and they end with the iteration, also
    if this process is killed; if one dies, that is a UserError. For `processes=1` this process calls the function.
    """
    if processes == 1:
        yield from map(function, items)
        return
    context = get_context("spawn")
    pool = ProcessPoolExecutor(processes, context, _begin, (budgets(context),))
    waiting = deque[Future[Result]]()
    try:
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) == AHEAD * processes:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    except BrokenProcessPool:
        raise UserError(
            "a process that decodes images died; memory may have been short; run again: what was decoded is kept"
        ) from None
    finally:
        pool.shutdown(cancel_futures=True)


def _begin(shared: dict[Kind, Budget]) -> None:
    """Prepare a new process: Ctrl-C is its parent's, it ends if its parent is killed, and memory is shared."""
    share(shared)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    if parent := parent_process():
        parent.join()
        os._exit(1)
