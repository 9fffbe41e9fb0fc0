"""Memory of a process and its children, on Linux."""

from collections.abc import Iterator
from pathlib import Path


def tree_memory(pid: int) -> float:
    """Return the sum of the proportional set sizes of a process and all its children, in GB.

    A page that n processes share counts 1/n in each.
    """
    return sum(map(_proportional_set_size, _tree(pid))) / 1e6


def _tree(pid: int) -> Iterator[int]:
    yield pid
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:  # it has just ended
        return
    for child in children:
        yield from _tree(int(child))


def _proportional_set_size(pid: int) -> int:
    """Return kB; 0 for a process that has ended."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("Pss:")), 0)
