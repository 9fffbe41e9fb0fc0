import contextlib
import random
import threading
import time
from itertools import pairwise
from multiprocessing import get_context

import pytest

from mlops.images import memory
from mlops.images.memory import UNCOUNTED, Budget, budgets, reserved, share
from mlops.images.worker_pool import mapped

TOTAL = 10 * UNCOUNTED


@pytest.fixture
def budget(monkeypatch: pytest.MonkeyPatch) -> Budget:
    """Return the budget of pixels that this process has."""
    monkeypatch.setattr(memory, "_budgets", {})
    monkeypatch.setitem(memory.TOTALS, "pixels", TOTAL)
    shared = budgets(get_context("spawn"))
    share(shared)
    return shared["pixels"]


def free(budget: Budget) -> int:
    return int(budget._free.value)


def test_all_together_never_hold_more_than_the_budget_and_each_gets_its_turn(budget: Budget) -> None:
    lock, most, held, finished = threading.Lock(), 0, 0, []

    def work(seed: int) -> None:
        nonlocal most, held
        rng = random.Random(seed)
        for _ in range(20):
            amount = rng.randrange(2 * UNCOUNTED, 12 * UNCOUNTED)
            with reserved("pixels") as reserve:
                reserve(amount)
                with lock:
                    held += min(amount, TOTAL)
                    most = max(most, held)
                time.sleep(0.0002)
                with lock:
                    held -= min(amount, TOTAL)
        finished.append(seed)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(finished) == 6
    assert TOTAL / 2 < most <= TOTAL
    assert free(budget) == TOTAL


def test_another_amount_replaces_the_first_and_an_error_gives_all_back(budget: Budget) -> None:
    with contextlib.suppress(ZeroDivisionError), reserved("pixels") as reserve:
        reserve(4 * UNCOUNTED)
        assert free(budget) == 6 * UNCOUNTED
        reserve(8 * UNCOUNTED)  # would wait for ever if the first were still held
        assert free(budget) == 2 * UNCOUNTED
        reserve(UNCOUNTED)
        assert free(budget) == TOTAL
        reserve(99 * UNCOUNTED)
        assert free(budget) == 0
        raise ZeroDivisionError
    assert free(budget) == TOTAL


def hold_all(_: int) -> tuple[float, float]:
    """Return from when to when this process held all of the memory."""
    with reserved("pixels") as reserve:
        reserve(memory.TOTALS["pixels"])
        began = time.monotonic()
        time.sleep(0.05)
        return began, time.monotonic()


def test_processes_that_decode_share_the_budget() -> None:
    times = sorted(mapped(hold_all, range(6), processes=2))
    assert all(end <= begin for (_, end), (begin, _) in pairwise(times))


def test_a_process_alone_takes_what_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "_budgets", {})
    with reserved("files") as reserve:
        reserve(1 << 60)
