"""Seeded SIGKILLs of trainers, stages, DVC, flows and workers, and what the next run makes of what is left.

Each trial has a copy of a project with prepared data, in which a training of about 600 steps comes next. The pipeline
runs by `dvc repro`, by `make run`, or as a run of `make worker`; at a random moment one process of it is killed; then
the same is typed again, or a worker started again, and nothing else. A trial takes about a minute.
"""

import json
import random
import shutil
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil  # type: ignore[import-untyped]  # has no stubs among the locked packages

from benchmarks.harness.tables import Table
from tests.project import Project, clone, environment
from tests.servers import BIN, FLOW_TIMEOUT, Deployment, running, serving, wait_for

TRAINING = {"steps": 600, "report_every": 7, "sample_every": 200, "checkpoint_every": 50}
MARKS: dict[str, Callable[[list[str]], bool]] = {
    "trainer": lambda words: "stages" in words and bool({"train", "replicate"} & set(words)),
    "stage": lambda words: "stages" in words,
    "dvc": lambda words: "repro" in words,
    "flow": lambda words: words[-1:] == ["flows"] or "prefect.engine" in words or "prefect.flow_engine" in words,
    "worker": lambda words: "worker" in words and "start" in words,
}
"""How the command of a process tells what it is."""
COMMANDS = {"dvc repro": (sys.executable, "-m", "dvc", "repro"), "make run": (sys.executable, "-m", "flows")}
WAYS = {"dvc repro": ("trainer", "stage", "dvc"), "make run": ("trainer", "dvc", "flow"), "worker": ("flow", "worker")}
"""Who can be killed in which way to run the pipeline."""
LONGEST_ORPHAN = 10.0
TORN = "Unable to read RWLock-file"


@dataclass
class Outcome:
    """What was seen in one trial."""

    way: str
    victim: str
    killed: bool = False
    orphan: float = 0.0
    """Seconds that the last process which the victim had started lived on."""
    trainers: int = 0
    """At most at the same time."""
    finished: int = 0
    """Runs of the training in MLflow that are finished; -1 if one that is not finished is left."""
    torn: bool = False
    """DVC refused what the kill had left of its own lock, which `make run` mends."""
    errors: list[str] = field(default_factory=list)

    def wrong(self) -> list[str]:
        """Return what must not be."""
        wrong = [*self.errors]
        wrong += [f"an orphan of {self.orphan:.1f} s"] * (self.orphan > LONGEST_ORPHAN)
        wrong += [f"{self.trainers} trainers at once"] * (self.trainers > 1)
        wrong += [f"{self.finished} finished runs in MLflow"] * (self.finished != 1)
        return wrong


def processes(what: str, root: Path) -> list[psutil.Process]:
    """Return the processes of a kind that work in a folder."""
    matching = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if Path(process.cwd()) == root and MARKS[what](process.cmdline()):
                matching.append(process)
    return matching


def alive(process: psutil.Process) -> bool:
    """Return whether a process runs; one that ended and that nobody waits for does not."""
    with suppress(psutil.NoSuchProcess):
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    return False


@contextmanager
def counted_trainers(root: Path, outcome: Outcome) -> Iterator[None]:
    """Count, while the block lasts, the processes that have a history open: those that train now."""
    done = threading.Event()

    def count() -> None:
        while not done.wait(0.2):
            trainers = 0
            for process in processes("trainer", root):
                with suppress(psutil.Error):
                    trainers += any(file.path.endswith("history.csv") for file in process.open_files())
            outcome.trainers = max(outcome.trainers, trainers)

    thread = threading.Thread(target=count)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def kill(outcome: Outcome, root: Path, rng: random.Random, runs: Callable[[], bool]) -> None:
    """Kill one process of the victim's kind as soon as there is one, unless the run ends before."""
    while runs():
        if victims := processes(outcome.victim, root):
            with suppress(psutil.NoSuchProcess):
                victim = rng.choice(victims)
                below = victim.children(recursive=True)
                victim.kill()
                outcome.killed = True
                began = time.monotonic()
                while any(map(alive, below)) and outcome.orphan < 3 * LONGEST_ORPHAN:
                    outcome.orphan = time.monotonic() - began
                    time.sleep(0.05)
                return
        time.sleep(0.05)


def by_command(outcome: Outcome, project: Project, seconds: float, rng: random.Random, target: str) -> None:
    """Run the pipeline, or as far as a stage, by a command, kill, and type the command again."""
    command = (*COMMANDS[outcome.way], *([target] if target else []))
    started = subprocess.Popen(
        command,
        cwd=project.root,
        env=environment(**project.variables),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    time.sleep(rng.uniform(0, seconds))
    killer = threading.Thread(target=kill, args=(outcome, project.root, rng, lambda: started.poll() is None))
    killer.start()
    started.wait()
    again = project.run(*command)
    if TORN in again.stdout and outcome.victim == "dvc":
        outcome.torn = True
        again = project.run(*COMMANDS["make run"])
    killer.join()
    if again.returncode:
        outcome.errors.append(again.stdout[-500:])


def by_worker(outcome: Outcome, project: Project, seconds: float, rng: random.Random) -> None:
    """Run the pipeline by a worker, kill, and start a worker again if there is none; the run completes by itself."""
    logs = project.root.parent
    server = (str(BIN / "prefect"), "server", "start", "--host", "127.0.0.1", "--port")
    with serving(project, logs / "server.log", *server, health="/api/health", api="/api") as address:
        deployed = Deployment(project, address)
        variables = {"PREFECT_API_URL": f"{address}/api", "PREFECT_WORKER_QUERY_SECONDS": "2", **project.variables}
        command = (sys.executable, "-m", "flows.worker")
        with running(project, logs / "worker.log", *command, **variables) as first:
            wait_for(lambda: "Worker" in (logs / "worker.log").read_text(), "no worker", first)
            run = deployed.run()

            def completed() -> bool:
                return bool(deployed.state(run)["type"] == "COMPLETED")

            wait_for(lambda: deployed.state(run)["type"] == "RUNNING", "the run does not start")
            time.sleep(rng.uniform(0, seconds))
            kill(outcome, project.root, rng, lambda: deployed.state(run)["type"] == "RUNNING")
            if first.poll() is None:
                wait_for(completed, "the run does not complete", seconds=FLOW_TIMEOUT)
                return
        with running(project, logs / "second.log", *command, **variables):
            wait_for(completed, "the run does not complete", seconds=FLOW_TIMEOUT)


def check_mlflow(outcome: Outcome, root: Path) -> None:
    """Count the runs of the training that is in the project."""
    key = json.loads((root / "reports" / "training" / "training.json").read_text())["key"]
    query = "select status from runs join tags on tags.run_uuid = runs.run_uuid where tags.value = ?"
    with closing(sqlite3.connect(root / ".mlflow" / "mlflow.db")) as database:
        states = [status for (status,) in database.execute(query, (key,))]
    outcome.finished = states.count("FINISHED") if set(states) == {"FINISHED"} else -1


def trial(
    outcome: Outcome, prepared: Project, folder: Path, expected: dict[str, bytes], seconds: float, target: str = ""
) -> None:
    """Make one trial in a folder, whose name is its seed.

    Args:
        outcome: names way and victim, and gets what is seen.
        prepared: the project that is copied.
        folder: new or empty.
        expected: the bytes of a run that was never stopped.
        seconds: the kill comes within so many after the start.
        target: the last stage of `dvc repro`; all if empty.
    """
    rng = random.Random(folder.name)
    own = {"TMPDIR": str(folder), "EQUILIBRIUM_SLOTS": "1"}
    project = Project(prepared.copy(folder / "project").root, own)
    with counted_trainers(project.root, outcome):
        try:
            if outcome.way == "worker":
                by_worker(outcome, project, seconds, rng)
            else:
                by_command(outcome, project, seconds, rng, target)
        except (TimeoutError, ChildProcessError) as error:
            outcome.errors.append(str(error))
    if not outcome.errors:
        check_mlflow(outcome, project.root)
        if any((project.root / name).read_bytes() != content for name, content in expected.items()):
            outcome.errors.append("other bytes than those of a run that was never stopped")


def prepare(folder: Path) -> tuple[Project, dict[str, bytes], float]:
    """Return a project whose next stage is `train`, the bytes that a run writes, and how long one takes."""
    project = clone(folder / "prepared")
    project.set(train=TRAINING, register={"max_fid_to_trivial": 1e9, "max_fid_ratio_to_noise": 1e9})
    project.commit()
    project.dvc("repro", "extractor")
    assert (
        project.run(sys.executable, "-c", "from mlops.tracking.store import check_store; check_store()").returncode == 0
    )
    whole = project.copy(folder / "whole")
    began = time.monotonic()
    whole.dvc("repro")
    return project, whole.results(), time.monotonic() - began


def table(trials: str = "50", seed: str = "0") -> Table:
    """Kill in so many trials, each way in its turn."""
    rng = random.Random(int(seed))
    outcomes = []
    with TemporaryDirectory() as name:
        prepared, expected, seconds = prepare(Path(name))
        for number in range(int(trials)):
            way = [*WAYS][number % len(WAYS)]
            folder = Path(name, f"trial-{seed}-{number}")
            folder.mkdir()
            outcomes.append(Outcome(way, rng.choice(WAYS[way])))
            trial(outcomes[-1], prepared, folder, expected, seconds)
            print(number, outcomes[-1], outcomes[-1].wrong(), file=sys.stderr, flush=True)
            shutil.rmtree(folder, ignore_errors=True)
    kinds = sorted({(outcome.way, outcome.victim) for outcome in outcomes})
    rows = [
        _row(way, victim, [one for one in outcomes if (one.way, one.victim) == (way, victim)]) for way, victim in kinds
    ]
    words = (
        "SIGKILL at a random moment, then the same command again, or a worker, and nothing by hand. Right: the bytes "
        "of a run that was never stopped, one finished run in MLflow, never two trainers at once, and no process that "
        f"the victim had started lives on for {LONGEST_ORPHAN:.0f} seconds."
    )
    if torn := sum(outcome.torn for outcome in outcomes):
        words += f" {torn} times `dvc repro` refused its own lock, torn by the kill, and `make run` was typed."
    columns = ("run by", "killed", "trials", "killed before the end", "right", "longest orphan, s")
    return Table("kills", columns, tuple(rows), words)


def _row(way: str, victim: str, outcomes: list[Outcome]) -> tuple[str, ...]:
    right = sum(not outcome.wrong() for outcome in outcomes)
    counts = (len(outcomes), sum(outcome.killed for outcome in outcomes), right)
    return way, victim, *map(str, counts), f"{max(outcome.orphan for outcome in outcomes):.1f}"
