"""One function on many items, by several processes, with the results in the order of the items."""

import multiprocessing
import os
import signal
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from typing import Generic, TypeVar

from stages.errors import StageError

Item = TypeVar("Item")
Result = TypeVar("Result")
AHEAD = 4
"""Results for each process that may wait for an earlier one; so memory is bounded."""


def cores() -> int:
    """Return how many CPU cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def mapped(function: Callable[[Item], Result], items: Iterable[Item], *, processes: int) -> Iterator[Result]:
    """Yield the function's result for each item, in the order of the items, whatever the number of processes.

    The processes are new ones that share no state with this one. They end with the iteration, and also when this
    process is killed, because then their pipes close.

    Args:
        function: importable by name, or a `functools.partial` of such a one.
        items: taken as processes become free.
        processes: 1 calls the function here.

    Yields:
        One result after the other.

    Raises:
        StageError: a process died.
    """
    if processes == 1:
        yield from map(function, items)
        return
    workers = [_Worker(function) for _ in range(processes)]
    try:
        yield from _in_order(workers, iter(items))
    finally:
        for worker in workers:
            worker.end()


def _in_order(workers: list["_Worker[Item, Result]"], items: Iterator[Item]) -> Iterator[Result]:
    idle, busy = list(workers), dict[Connection, tuple[_Worker[Item, Result], int]]()
    results: dict[int, Result] = {}
    sent = given = 0
    more = True
    while more or busy or results:
        while more and idle and sent - given < AHEAD * len(workers):
            try:
                item = next(items)
            except StopIteration:
                more = False
            else:
                worker = idle.pop()
                worker.send(item)
                busy[worker.connection] = worker, sent
                sent += 1
        if given in results:
            yield results.pop(given)
            given += 1
        elif busy:
            for connection in wait(list(busy)):
                worker, number = busy.pop(connection)  # type: ignore[call-overload]  # wait's stub names a union
                results[number] = worker.receive()
                idle.append(worker)


class _Worker(Generic[Item, Result]):
    def __init__(self, function: Callable[[Item], Result]) -> None:
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self._process = context.Process(target=_work, args=(theirs, function), daemon=True)
        self._process.start()
        theirs.close()

    def send(self, item: Item) -> None:
        try:
            self.connection.send(item)
        except OSError:
            raise self._died() from None

    def receive(self) -> Result:
        try:
            result, error = self.connection.recv()
        except (EOFError, OSError):
            raise self._died() from None
        if error is not None:
            raise error
        found: Result = result
        return found

    def end(self) -> None:
        self._process.terminate()
        self._process.join()
        self.connection.close()

    def _died(self) -> StageError:
        self._process.join()
        code = self._process.exitcode or 0
        how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"
        hint = "; memory may have been short" if code == -signal.SIGKILL else ""
        return StageError(f"a process that decodes {how}{hint}; run again: what was finished is kept")


def _work(connection: Connection, function: Callable[[Item], Result]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all of them; the process that started them ends them
    with suppress(EOFError, OSError):
        while True:
            item = connection.recv()
            try:
                answer = function(item), None
            except Exception as error:
                error.add_note(traceback.format_exc())
                answer = None, error  # type: ignore[assignment]
            connection.send(answer)
