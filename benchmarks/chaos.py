"""A training whose MLflow fails in all ways that servers know, beside one whose MLflow answers: time and stalls.

`python -m benchmarks chaos [ROUNDS] [STEPS]`. The networks are those of the default parameters; both ways write to one
server, through a proxy (`tests/chaos.py`), in turns. In the one way it has a mood of its own for each request as long
as the training lasts, and is down for a minute of it. Afterwards `register` fills in, and all in MLflow is counted.
"""

import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import yaml
from mlflow import MlflowClient

from benchmarks.harness.tables import Table
from mlops.project.result_files import HISTORY, SAMPLES, SPEED, TRAINING, load_history, load_json
from mlops.tracking.run_writer import CURVES
from mlops.tracking.runs import artifact_names, flatten
from tests.chaos import Proxy, chaos
from tests.project import Project, clone
from tests.servers import mlflow_server

PARAMS = yaml.safe_load(Path("params.yaml").read_text(encoding="utf-8"))
DOWN_FROM, DOWN = 15.0, 60.0
"""Seconds of training after which the server is down, and for how long."""
POLL = 0.02


class Watched:
    """When rows of the history came, as a process outside of the training sees them."""

    def __init__(self, root: Path) -> None:
        self._checkpoints = root / ".checkpoints"
        self.times: list[float] = []

    def rows(self) -> bool:
        """Return whether the training has written rows."""
        return bool(self.times)

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Look at the file again and again while the block lasts."""
        done = threading.Event()
        thread = threading.Thread(target=self._watch, args=(done,))
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()

    def _watch(self, done: threading.Event) -> None:
        size = 0
        while not done.wait(POLL):
            with suppress(FileNotFoundError):
                now = sum(path.stat().st_size for path in self._checkpoints.glob("*/history.csv"))
                if now > size:
                    size = now
                    self.times.append(time.monotonic())

    def longest(self) -> float:
        """Return the longest time between two rows."""
        return max(after - before for before, after in zip(self.times, self.times[1:], strict=False))


@dataclass(frozen=True)
class Outcome:
    """What one training was like."""

    seconds: float
    longest: float
    """Seconds between two rows, at most."""
    requests: Counter[str]
    wrong: list[str]
    """What MLflow lacks, or has twice, at the end."""


def trained(project: Project, server: str, seed: int, *, moods: bool) -> Outcome:
    """Run the pipeline with a seed, so that it trains anew, and count what MLflow has afterwards."""
    project.set(train={"seed": seed})
    training, watched = project.root / "reports" / "training", Watched(project.root)

    def bad() -> bool:
        return moods and watched.rows() and not (training / SPEED).exists()

    with chaos(server, seed, bad) as proxy, watched.watching():
        if moods:
            threading.Thread(target=_take_down, args=(proxy, watched), daemon=True).start()
        variables = {"MLFLOW_TRACKING_URI": proxy.address}
        ended = project.run(sys.executable, "-m", "dvc", "repro", **variables)
    assert ended.returncode == 0, ended.stdout[-3000:]
    seconds = load_json(training / SPEED)["seconds"]
    registration = load_json(project.root / "reports" / "registration.json")
    wrong = differences(MlflowClient(server), registration["run_id"], training)
    return Outcome(seconds, watched.longest(), proxy.seen, wrong)


def _take_down(proxy: Proxy, watched: Watched) -> None:
    """Let the server be down for a while of the training."""
    while not watched.rows():
        time.sleep(POLL)
    time.sleep(DOWN_FROM)
    proxy.down.set()
    time.sleep(DOWN)
    proxy.down.clear()


def differences(client: MlflowClient, run_id: str, training: Path) -> list[str]:
    """Return what of a training a run lacks, or has twice: numbers by name and step, grids, parameters."""
    rows, facts, run = load_history(training / HISTORY), load_json(training / TRAINING), client.get_run(run_id)
    wrong = []
    for name in rows[0].keys() - {"step"}:
        logged = sorted((metric.step, metric.value) for metric in client.get_metric_history(run_id, f"{CURVES}{name}"))
        if logged != [(int(row["step"]), row[name]) for row in rows]:
            wrong.append(name)
    if artifact_names(client, run_id, SAMPLES) != {path.name for path in (training / SAMPLES).iterdir()}:
        wrong.append(SAMPLES)
    wrong += [name for name, value in flatten(facts["parameters"]).items() if run.data.params.get(name) != str(value)]
    return wrong + [run.info.status] * (run.info.status != "FINISHED")


def table(rounds: str = "3", steps: str = "12000") -> Table:
    """Train in both ways, in turns."""
    ways: dict[bool, list[Outcome]] = {False: [], True: []}
    with TemporaryDirectory() as name:
        project = clone(Path(name, "project"))
        project.set(network=PARAMS["network"], train=PARAMS["train"] | {"steps": int(steps)})
        project.commit()
        with mlflow_server(project, Path(name, "server.log")) as server:
            project.dvc("repro", "extractor")
            for number in range(2 * int(rounds)):
                moods = number % 4 in (1, 2)  # calm, moods, moods, calm: what drifts meets both alike
                outcome = trained(project, server, number, moods=moods)
                ways[moods].append(outcome)
                print(number, "moods" if moods else "calm", outcome, file=sys.stderr, flush=True)
    rows = [_row(name, ways[moods]) for name, moods in (("answers", False), ("fails", True))]
    calm, bad = ([outcome.seconds for outcome in ways[moods]] for moods in (False, True))
    ratio = median(bad) / median(calm) - 1
    usual = max(outcome.longest for outcome in ways[False])
    longer = max(outcome.longest for outcome in ways[True]) - usual
    seen = sum((outcome.requests for outcome in ways[True]), Counter[str]())
    words = (
        f"{int(steps):,} steps, {rounds} trainings each way. If MLflow fails, a training takes {ratio:+.1%} time, "
        f"by the medians, and its longest time between two rows is {longer:+.2f} s beside the longest of the others. "
        f"Requests while it failed: {', '.join(f'{count} {mood}' for mood, count in seen.most_common())}."
    )
    columns = (
        "MLflow",
        "seconds of training, median",
        "least to most",
        "longest time between rows",
        "wrong at the end",
    )
    return Table("chaos", columns, tuple(rows), words)


def _row(name: str, outcomes: list[Outcome]) -> tuple[str, ...]:
    seconds = sorted(outcome.seconds for outcome in outcomes)
    wrong = [what for outcome in outcomes for what in outcome.wrong]
    longest = max(outcome.longest for outcome in outcomes)
    return (
        name,
        f"{median(seconds):.1f}",
        f"{seconds[0]:.1f} to {seconds[-1]:.1f}",
        f"{longest:.2f} s",
        ", ".join(wrong) or "nothing",
    )
