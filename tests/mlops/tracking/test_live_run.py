from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from threading import Event
from types import SimpleNamespace
from typing import Any

import pytest
from mlflow.exceptions import MlflowException

import mlops.tracking.live_run as live_runs
from mlops.project.errors import UserError
from mlops.tracking.live_run import LiveRun, Waiting

ERRORS = [
    MlflowException("away"),
    UserError("no store"),
    OSError(28, "No space left"),
    ValueError("no JSON"),
    KeyError(),
]


class Server:
    """Takes rows, grids and tags as a run does: it refuses in its bad hours, sometimes after it wrote a part."""

    def __init__(self, mood: Callable[[], None]) -> None:
        self.mood, self.id, self.run = mood, "run", SimpleNamespace()
        self.rows, self.grids, self.tags = list[int](), dict[int, str](), dict[str, str]()
        self.known = set[int]()
        self.states: list[str] = []
        self.client = SimpleNamespace(
            update_run=lambda _, status: self.states.append(status),
            set_terminated=lambda _, status: self.states.append(status),
        )

    def read_known(self) -> None:
        self.mood()
        self.known = {*self.rows}

    def write_rows(self, rows: list[dict[str, int]]) -> None:
        new = [row["step"] for row in rows if row["step"] not in self.known]
        self.rows += new[: len(new) // 2]
        self.mood()
        self.rows += new[len(new) // 2 :]
        self.known |= {*new}

    def write_grid(self, picture: str, step: int) -> None:
        self.mood()
        self.grids.setdefault(step, picture)

    def set_tags(self, tags: dict[str, str]) -> None:
        self.mood()
        self.tags |= tags


def require(answer: bool) -> None:
    assert answer


@pytest.fixture
def live(monkeypatch: pytest.MonkeyPatch) -> Callable[[Server], LiveRun]:
    """Return a function that makes the run of a server; nothing waits."""

    def make(server: Server) -> LiveRun:
        def opened(*_: Any) -> Server:
            server.read_known()
            return server

        monkeypatch.setattr(live_runs, "open_run", opened)
        return LiveRun({}, Path("prepared"))

    monitor = SimpleNamespace(start=lambda: None, finish=lambda: None)
    monkeypatch.setattr("mlflow.system_metrics.system_metrics_monitor.SystemMetricsMonitor", lambda *_, **__: monitor)
    monkeypatch.setattr(live_runs, "FLUSH_EVERY", 0.001)
    monkeypatch.setattr(live_runs, "SHARE", 100.0)
    return make


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_whatever_goes_wrong_everything_arrives_once_and_in_order(
    error: Exception, live: Callable[[Server], LiveRun], capsys: pytest.CaptureFixture[str]
) -> None:
    asked, well = 0, Event()

    def mood() -> None:
        nonlocal asked
        asked += 1
        if asked == 40:
            well.set()
        if asked % 3 and not well.is_set():
            raise error

    server = Server(mood)
    with live(server) as run:
        for step in range(500):
            run.log_row({"step": step})
            if step % 100 == 0:
                run.log_grid(str(step), step)  # type: ignore[arg-type]
            run.log_tags({"last": str(step)})
        assert well.wait(60)
    assert server.rows == [*range(500)]
    assert server.grids == {step: str(step) for step in range(0, 500, 100)}
    assert server.tags == {"last": "499"}
    assert server.states == ["RUNNING", "FINISHED"]
    told = capsys.readouterr()
    assert told.err.count("training goes on without it") == told.out.count("MLflow answers again") >= 1


def test_a_training_ends_while_mlflow_is_silent(
    live: Callable[[Server], LiveRun], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live_runs, "LAST", 0.2)
    speaks = Event()
    server = Server(lambda: require(speaks.wait()))
    run = live(server)
    with run:
        for step in range(1000):
            run.log_row({"step": step})
    assert server.rows == []
    speaks.set()
    run._thread.join(60)
    assert server.rows == [*range(1000)]


@pytest.mark.parametrize(
    ("error", "state"), [(None, "FINISHED"), (ValueError, "FAILED"), (KeyboardInterrupt, "KILLED")]
)
def test_the_run_has_the_state_of_the_training(
    error: type[BaseException] | None, state: str, live: Callable[[Server], LiveRun]
) -> None:
    server = Server(lambda: None)
    run = live(server)
    with pytest.raises(error) if error else nullcontext(), run:
        run.log_row({"step": 1})
        if error:
            raise error
    run._thread.join(60)
    assert (server.rows, server.states) == ([1], ["RUNNING", state])


def test_what_waits_is_bounded_and_the_newest() -> None:
    waiting = Waiting()
    for step in range(0, live_runs.MOST_ROWS * 2, 500):
        new = [{"step": float(number)} for number in range(step, step + 500)]
        waiting |= Waiting(new, {step: step}, {"last": str(step)})  # type: ignore[dict-item]
    assert [row["step"] for row in waiting.rows] == [*range(live_runs.MOST_ROWS, 2 * live_runs.MOST_ROWS)]
    assert [*waiting.grids] == [*range(step - 7 * 500, step + 1, 500)]
    assert waiting.tags == {"last": str(step)}


@pytest.mark.parametrize("cost", [0.001, 0.05, 1.0])
def test_writing_computes_for_a_hundredth_of_the_time_at_most(cost: float, monkeypatch: pytest.MonkeyPatch) -> None:
    now, pauses = 0.0, list[float]()
    run = LiveRun({}, Path("prepared"))

    def write(last: bool) -> None:
        nonlocal now
        now += cost
        run._writer = SimpleNamespace()  # type: ignore[assignment]

    def wait(pause: float) -> bool:
        pauses.append(pause)
        return len(pauses) == 100

    monkeypatch.setattr("mlops.tracking.live_run.time.thread_time", lambda: now)
    run._write, run._ended = write, SimpleNamespace(wait=wait)  # type: ignore[method-assign, assignment]
    run._work()
    first, opened, *others = pauses
    assert (first, opened) == (0.0, live_runs.FLUSH_EVERY)
    assert all(pause == pytest.approx(max(live_runs.FLUSH_EVERY, cost / live_runs.SHARE)) for pause in others)
