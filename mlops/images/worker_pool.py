"""One function on many items, by several processes, with the results in the order of the items."""

import fcntl
import multiprocessing
import os
import pickle
import signal
import threading
import traceback
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from queue import SimpleQueue
from typing import Any, Generic, TypeVar

from mlops.project.errors import UserError

Item = TypeVar("Item")
Result = TypeVar("Result")
AT_ONCE = 2
"""Items that a process has: one to work on, and one so that it need not wait for the next."""
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
        UserError: a process died.
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
    places = {worker.connection: worker for worker in workers}
    results: dict[int, Result] = {}
    sent = given = 0
    more = True
    while more or given < sent:
        while more and sent - given < AHEAD * len(workers):
            worker = min(workers, key=lambda worker: len(worker.numbers))
            if len(worker.numbers) == AT_ONCE:
                break
            try:
                item = next(items)
            except StopIteration:
                more = False
            else:
                worker.send(item, sent)
                sent += 1
        if given in results:
            yield results.pop(given)
            given += 1
        elif busy := [worker.connection for worker in workers if worker.numbers]:
            for connection in wait(busy):
                number, result = places[connection].receive()  # type: ignore[index]  # wait's stub names a union
                results[number] = result


class _Worker(Generic[Item, Result]):
    def __init__(self, function: Callable[[Item], Result]) -> None:
        context = multiprocessing.get_context("spawn")
        their_items, self._items = context.Pipe(duplex=False)
        self.connection, their_results = context.Pipe(duplex=False)
        _enlarge(self.connection)
        self._process = context.Process(target=_work, args=(their_items, their_results, function), daemon=True)
        self._process.start()
        their_items.close()
        their_results.close()
        self.numbers: deque[int] = deque()
        """Of the items that it has and whose results are not here yet."""

    def send(self, item: Item, number: int) -> None:
        try:
            _send(self._items, item)
        except OSError:
            raise self._died() from None
        self.numbers.append(number)

    def receive(self) -> tuple[int, Result]:
        try:
            result, error = _received(self.connection)
        except (EOFError, OSError):
            raise self._died() from None
        if error is not None:
            raise error
        return self.numbers.popleft(), result

    def end(self) -> None:
        self._process.terminate()
        self._process.join()
        self._items.close()
        self.connection.close()

    def _died(self) -> UserError:
        self._process.join()
        code = self._process.exitcode or 0
        how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"
        hint = "; memory may have been short" if code == -signal.SIGKILL else ""
        return UserError(f"a process that decodes {how}{hint}; run again: what was finished is kept")


def _enlarge(pipe: Connection) -> None:
    """Let a result of up to 1 MB lie in a pipe, so that its sender need not wait for a reader; Linux alone can."""
    with suppress(AttributeError, OSError):
        fcntl.fcntl(pipe.fileno(), fcntl.F_SETPIPE_SZ, 1 << 20)


def _send(connection: Connection, content: object) -> None:
    """Send an object; what its arrays hold goes behind it as it lies, in a third of the time of pickled bytes."""
    buffers: list[pickle.PickleBuffer] = []
    pickled = pickle.dumps(content, protocol=5, buffer_callback=buffers.append)
    parts = [buffer.raw() for buffer in buffers]
    connection.send((pickled, [part.nbytes for part in parts]))
    for part in parts:
        while part:
            part = part[os.write(connection.fileno(), part) :]


def _received(connection: Connection) -> Any:  # as pickle.loads
    """Return what `_send` has sent."""
    pickled, sizes = connection.recv()
    buffers = [bytearray(size) for size in sizes]
    for buffer in buffers:
        rest = memoryview(buffer)
        while rest:
            if not (count := os.readv(connection.fileno(), [rest])):
                raise EOFError
            rest = rest[count:]
    return pickle.loads(pickled, buffers=buffers)


def _work(sent: Connection, results: Connection, function: Callable[[Item], Result]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all of them; the process that started them ends them
    items: SimpleQueue[tuple[Item] | None] = SimpleQueue()
    threading.Thread(target=_take, args=(sent, items), daemon=True).start()
    with suppress(OSError):
        while (taken := items.get()) is not None:
            try:
                answer = function(taken[0]), None
            except Exception as error:
                error.add_note(traceback.format_exc())
                answer = None, error  # type: ignore[assignment]
            _send(results, answer)


def _take(connection: Connection, items: "SimpleQueue[tuple[Item] | None]") -> None:
    """Take items as they come, so that who sends one never waits for a process that waits to be heard."""
    with suppress(EOFError, OSError):
        while True:
            items.put((_received(connection),))
    items.put(None)
