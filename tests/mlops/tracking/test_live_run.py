from types import SimpleNamespace

import pytest
from mlflow.exceptions import MlflowException

from mlops.tracking.live_run import LiveRun


@pytest.mark.parametrize("cost", [0.001, 0.05, 1.0])
def test_writing_rows_takes_a_hundredth_of_the_time_at_most(cost: float, monkeypatch: pytest.MonkeyPatch) -> None:
    now, written = 0.0, []
    live = LiveRun.__new__(LiveRun)
    live.rows, live.lost, live.again, live.flushed, live.cost = [], False, 0.0, 0.0, 0.0

    def write_rows(rows: list[dict[str, float]]) -> None:
        nonlocal now
        now += cost
        written.append(len(rows))

    live.writer = SimpleNamespace(write_rows=write_rows)  # type: ignore[assignment]
    monkeypatch.setattr("mlops.tracking.live_run.time.monotonic", lambda: now)
    for step in range(20_000):
        now += 0.05
        live.log_row({"step": step})
        live.flush()
    assert len(written) * cost <= 0.011 * now
    assert len(written) >= now / max(3, 120 * cost)  # and no less often than that allows
    assert sum(written) + len(live.rows) == 20_000


def test_a_server_that_comes_back_gets_every_row_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """It wrote half of what it was given, and is away for a while."""
    now, stored, tries, away = 0.0, list[int](), list[float](), (50.0, 90.0)
    live = LiveRun.__new__(LiveRun)
    live.rows, live.lost, live.again, live.flushed, live.cost = [], False, 0.0, 0.0, 0.0
    known = set[int]()

    def write_rows(rows: list[dict[str, int]]) -> None:
        nonlocal now
        tries.append(now)
        new = [row["step"] for row in rows if row["step"] not in known]
        if away[0] < now < away[1]:
            stored.extend(new[: len(new) // 2] if len(tries) % 2 else [])
            now += 0.1
            raise MlflowException("away")
        stored.extend(new)

    live.writer = SimpleNamespace(write_rows=write_rows, read_known=lambda: known.update(stored))  # type: ignore[assignment]
    monkeypatch.setattr("mlops.tracking.live_run.time.monotonic", lambda: now)
    for step in range(2_000):
        now += 0.1
        live.log_row({"step": step})
        live.flush()
    live.again = 0.0
    live._flush()
    assert stored == [*range(2_000)]
    assert 2 <= sum(away[0] < at < away[1] for at in tries) <= 0.01 * (away[1] - away[0]) / 0.1 + 1
