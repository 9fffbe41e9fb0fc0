import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks.harness.rounds import difference, in_own_process, in_turns, ratio, seconds
from tests.project import environment


def test_ways_take_turns_and_the_first_round_does_not_count() -> None:
    order = list[str]()

    def way(name: str) -> Callable[[], float]:
        return lambda: order.append(name) or float(len(order))  # type: ignore[func-returns-value]

    times = in_turns("test", {"one": way("one"), "other": way("other")}, 3)
    assert order == ["one", "other"] * 4
    assert times == {"one": [3.0, 5.0, 7.0], "other": [4.0, 6.0, 8.0]}


def test_a_process_of_its_own_is_new_every_time() -> None:
    assert len({os.getpid(), in_own_process(os.getpid), in_own_process(os.getpid)}) == 3
    assert in_own_process(int, "11", base=2) == 3


def test_ratio_and_difference_are_medians_within_a_round() -> None:
    times = {"one": [2.0, 30.0, 3.0], "other": [1.0, 10.0, 2.0]}
    assert ratio(times, "one", "other") == 2
    assert difference(times, "one", "other") == 1


def test_a_process_that_ends_otherwise_is_not_timed(tmp_path: Path) -> None:
    def run(code: str, output: str = "") -> float:
        return seconds([sys.executable, "-c", code], tmp_path, environment(), output=output)

    assert run("import time; time.sleep(0.2)") > 0.2
    assert run("raise SystemExit('usage: this')", output="usage:") > 0
    with pytest.raises(RuntimeError, match=r"\b1: broken"):
        run("raise SystemExit('broken')")
    with pytest.raises(RuntimeError, match=r"\b0: "):
        run("pass", output="usage:")
