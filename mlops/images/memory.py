"""Memory that all processes which decode images share, so that a few large ones at once do not multiply.

Before a process allocates much, it takes as many bytes of a budget, and waits as long as the others have too many of
them: first of the budget of files, then of that of pixels, so that no two wait for each other.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.context import SpawnContext
from typing import Literal

Reserve = Callable[[int], None]
"""Takes so many bytes, in place of those that it took before."""
Kind = Literal["files", "pixels"]
TOTALS: dict[Kind, int] = {"files": 128 << 20, "pixels": 1 << 30}
"""Bytes of each budget: with 16 processes of 50 MB, and the one that started them, less than 2 GB."""
UNCOUNTED = 1 << 20
"""Bytes that a process takes without asking."""

_budgets: dict[Kind, "Budget"] = {}


class Budget:
    """Bytes that processes take and give back."""

    def __init__(self, total: int, context: SpawnContext) -> None:
        self._total = total
        self._free = context.RawValue("q", total)
        self._changed = context.Condition()

    def take(self, amount: int) -> int:
        """Wait until so many bytes are free, or all of them if it wants more; return how many were taken."""
        amount = min(amount, self._total)
        with self._changed:
            self._changed.wait_for(lambda: self._free.value >= amount)
            self._free.value -= amount
        return amount

    def give(self, amount: int) -> None:
        """Give bytes back that were taken."""
        with self._changed:
            self._free.value += amount
            self._changed.notify_all()


def budgets(context: SpawnContext) -> dict[Kind, Budget]:
    """Return new budgets, for processes that will be started with them."""
    return {kind: Budget(total, context) for kind, total in TOTALS.items()}


def share(shared: dict[Kind, Budget]) -> None:
    """Let this process take memory of budgets that others have too; before, it takes what it wants."""
    _budgets.update(shared)


@contextmanager
def reserved(kind: Kind) -> Iterator[Reserve]:
    """Yield a function that takes bytes of a budget; they are given back when the block ends."""
    budget, held = _budgets.get(kind), 0

    def reserve(amount: int) -> None:
        nonlocal held
        if budget is None:
            return
        if held:
            budget.give(held)
        held = budget.take(amount) if amount > UNCOUNTED else 0

    try:
        yield reserve
    finally:
        reserve(0)
