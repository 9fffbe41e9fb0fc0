import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from mlops.images.worker_pool import AHEAD, cores, mapped
from mlops.project.errors import UserError

ROOT = Path(__file__).parents[3]


def late(number: int) -> int:
    """Return the square, the later the smaller the number is among its neighbours."""
    time.sleep(0.01 * (3 - number % 4))
    return number * number


def end_at_three(number: int) -> int:
    if number == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def refuse_three(number: int) -> int:
    if number == 3:
        raise UserError("3 is refused")
    return number


@pytest.mark.parametrize("processes", [1, 2, 3])
@pytest.mark.parametrize("count", [0, 1, 25])
def test_results_come_in_the_order_of_the_items(processes: int, count: int) -> None:
    assert list(mapped(late, range(count), processes=processes)) == [number * number for number in range(count)]


def test_items_are_taken_as_results_are_so_memory_is_bounded() -> None:
    taken = 0

    def items() -> Iterator[int]:
        nonlocal taken
        while True:
            taken += 1
            yield taken

    results = mapped(abs, items(), processes=2)
    for given in range(1, 100):
        assert next(results) == given
        assert taken < given + 2 * AHEAD
    results.close()  # type: ignore[attr-defined]  # a generator


def test_large_items_and_results_pass() -> None:
    items = [bytes([number]) * 3_000_000 for number in range(6)]
    assert list(mapped(bytes.upper, items, processes=2)) == items


def test_a_process_that_dies_is_one_error_of_the_user() -> None:
    with pytest.raises(UserError) as caught:
        list(mapped(end_at_three, range(10), processes=2))
    assert caught.value.__suppress_context__


@pytest.mark.parametrize("processes", [1, 2])
def test_an_error_is_the_same_in_any_process(processes: int) -> None:
    with pytest.raises(UserError, match="3"):
        list(mapped(refuse_three, range(10), processes=processes))


def test_no_more_cores_are_counted_than_may_be_used() -> None:
    assert 1 <= cores() <= (os.cpu_count() or 1)


PROGRAM = """
import signal, sys
from mlops.images.worker_pool import mapped
from tests.mlops.images.test_worker_pool import sleeper
signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
for pid in mapped(sleeper, range(100), processes=2):
    print(pid, flush=True)
"""


def sleeper(_: int) -> int:
    """Return this process, quickly at first."""
    time.sleep(0.2)
    return os.getpid()


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"
    except OSError:
        return False


@pytest.mark.parametrize(("kind", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, -2), (signal.SIGKILL, -9)])
def test_no_process_outlives_the_one_that_started_it(kind: signal.Signals, code: int) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        pids = set[int]()
        while len(pids) < 2:  # the second may start late
            pids.add(int(process.stdout.readline()))
        process.send_signal(kind)
        assert process.wait(30) == code
    for _ in range(300):
        if not any(map(is_alive, pids)):
            return
        time.sleep(0.1)
    raise AssertionError("a process outlived the one that started it")
