from types import SimpleNamespace

import pytest

from mlops.tracking.live_run import LiveRun


@pytest.mark.parametrize("cost", [0.001, 0.05, 1.0])
def test_writing_rows_takes_a_hundredth_of_the_time_at_most(cost: float, monkeypatch: pytest.MonkeyPatch) -> None:
    now, written = 0.0, []
    live = LiveRun.__new__(LiveRun)
    live.rows, live.lost, live.flushed, live.cost = [], False, 0.0, 0.0

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
