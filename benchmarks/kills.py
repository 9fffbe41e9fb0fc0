"""Seeded SIGKILLs of trainers, stages, DVC, flows, workers and decisions, and what the next run makes of what is left.

Each trial has a copy of a project in which nothing was run. The pipeline, from `fetch` to `register`, with a replica,
runs by `dvc repro`, by `make run`, or as a run of `make worker`; at a random moment one process of it is killed, or all
of its group; then the same is typed again, or a worker started again, and nothing else. In a fourth way a decision by
hand is killed, in a project with two versions. A trial takes about a minute.
"""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil  # type: ignore[import-untyped]  # has no stubs among the locked packages

from benchmarks.harness.facts import asked, facts, unlike, untouched
from benchmarks.harness.processes import alive, counted_trainers, processes
from benchmarks.harness.tables import Table
from tests.project import Project, environment
from tests.servers import BIN, FLOW_TIMEOUT, Deployment, running, serving, wait_for

TRAINING = {"steps": 600, "report_every": 7, "sample_every": 200, "checkpoint_every": 50}
COMMANDS = {"dvc repro": (sys.executable, "-m", "dvc", "repro"), "make run": (sys.executable, "-m", "flows")}
WAYS = {
    "dvc repro": ("trainer", "stage", "dvc", "group of dvc"),
    "make run": ("trainer", "dvc", "flow", "group of flow"),
    "worker": ("flow", "worker"),
    "by hand": ("promote",),
}
"""Who can be killed in which way to run the pipeline, or to decide."""
LONGEST_ORPHAN = 10.0
TORN = "Unable to read RWLock-file"
PROMOTION = 3.0
"""Seconds that a decision by hand takes at most."""


@dataclass
class Outcome:
    """What was seen in one trial."""

    way: str
    victim: str
    killed: bool = False
    orphan: float = 0.0
    """Seconds that the last process which the victim had started lived on."""
    lived: str = ""
    """The command of that process."""
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
        wrong += [f"an orphan of {self.orphan:.1f} s: {self.lived}"] * (self.orphan > LONGEST_ORPHAN)
        wrong += [f"{self.trainers} trainers at once"] * (self.trainers > 1)
        wrong += [f"{self.finished} finished runs in MLflow"] * (self.finished != 1)
        return wrong


def kill(outcome: Outcome, root: Path, rng: random.Random, runs: Callable[[], bool]) -> None:
    """Kill one process of the victim's kind as soon as there is one, unless the run ends before."""
    kind = outcome.victim.removeprefix("group of ")
    while runs():
        if victims := processes(kind, root):
            with suppress(psutil.NoSuchProcess, ProcessLookupError):
                victim = rng.choice(victims)
                below = victim.children(recursive=True)
                if kind == outcome.victim:
                    victim.kill()
                else:
                    os.killpg(os.getpgid(victim.pid), signal.SIGKILL)
                outcome.killed = True
                began = time.monotonic()
                while (living := [*filter(alive, below)]) and outcome.orphan < 3 * LONGEST_ORPHAN:
                    outcome.orphan = time.monotonic() - began
                    with suppress(psutil.Error):  # it has just ended
                        outcome.lived = " ".join(living[-1].cmdline())[-100:]
                    time.sleep(0.05)
                return
        time.sleep(0.05)


def interrupted(
    outcome: Outcome, project: Project, seconds: float, rng: random.Random, command: tuple[str, ...]
) -> subprocess.CompletedProcess[str]:
    """Run a command, kill in it, and return what the same command says when it is typed again."""
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
    if TORN in again.stdout and "dvc" in outcome.victim:
        outcome.torn = True
        again = project.run(*COMMANDS["make run"])
    killer.join()
    return again


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


def trial(
    outcome: Outcome, start: Project, folder: Path, expected: dict[str, bytes], seconds: float, target: str = ""
) -> Project:
    """Make one trial in a folder, whose name is its seed.

    Args:
        outcome: names way and victim, and gets what is seen.
        start: the project that is copied.
        folder: new or empty.
        expected: the bytes of a run that was never stopped.
        seconds: the kill comes within so many after the start.
        target: the last stage of `dvc repro`; all if empty.

    Returns:
        The project of the trial.
    """
    rng = random.Random(folder.name)
    own = {"TMPDIR": str(folder), "EQUILIBRIUM_SLOTS": "1"}
    project = Project(start.copy(folder / "project").root, own)
    with counted_trainers(project.root) as trainers:
        try:
            if outcome.way == "worker":
                by_worker(outcome, project, seconds, rng)
            else:
                command = (*COMMANDS[outcome.way], *([target] if target else []))
                again = interrupted(outcome, project, seconds, rng, command)
                outcome.errors += [again.stdout[-500:]] * (again.returncode != 0)
        except (TimeoutError, ChildProcessError) as error:
            outcome.errors.append(str(error))
        outcome.trainers = trainers()
    if not outcome.errors:
        outcome.finished = _finished(project.root)
        if any((project.root / name).read_bytes() != content for name, content in expected.items()):
            outcome.errors.append("other bytes than those of a run that was never stopped")
    return project


def _finished(root: Path) -> int:
    """Return the number of finished runs of the training that is in the project; -1 if another is left."""
    key = json.loads((root / "reports" / "training" / "training.json").read_text())["key"]
    query = "select status from runs join tags on tags.run_uuid = runs.run_uuid where tags.value = ?"
    states = [status for (status,) in asked(root, query, key)]
    return states.count("FINISHED") if set(states) == {"FINISHED"} else -1


def decide(outcome: Outcome, two: Project, folder: Path) -> None:
    """Kill a promotion by hand in a project with two versions, and type it again: it is made, and made once."""
    project = two.copy(folder / "project")
    champion = "select version from registered_model_aliases where alias = 'champion'"
    ((before,),), decisions = asked(project.root, champion), facts(project.root)["decisions"]
    other = "1" if str(before) == "2" else "2"
    command = (sys.executable, "-m", "commands.promote", "promote", other, "--reason", "a trial")
    again = interrupted(outcome, project, PROMOTION, random.Random(folder.name), command)
    ((after,),), made = asked(project.root, champion), facts(project.root)["decisions"] - decisions
    if str(after) != other or made != 1:
        outcome.errors.append(f"champion is {after}, {made} decisions were made: {again.stdout[-500:]}")
    outcome.finished = 1  # nothing is trained


def prepare(folder: Path) -> tuple[Project, Project, Project, float]:
    """Return a project in which nothing was run, one that was not stopped, one with two versions, and a run's time."""
    project = untouched(folder / "untouched", TRAINING)
    whole = project.copy(folder / "whole")
    began = time.monotonic()
    whole.dvc("repro")
    seconds = time.monotonic() - began
    two = whole.copy(folder / "two")
    two.set(train={"seed": 1})
    two.dvc("repro")
    return project, whole, two, seconds


def table(trials: str = "100", seed: str = "0") -> Table:
    """Kill in so many trials, each way in its turn."""
    rng = random.Random(int(seed))
    outcomes = []
    with TemporaryDirectory() as name:
        start, whole, two, seconds = prepare(Path(name))
        expected, left = whole.results(), facts(whole.root)
        for number in range(int(trials)):
            way = [*WAYS][number % len(WAYS)]
            folder = Path(name, f"trial-{seed}-{number}")
            folder.mkdir()
            outcome = Outcome(way, rng.choice(WAYS[way]))
            if way == "by hand":
                decide(outcome, two, folder)
            else:
                project = trial(outcome, start, folder, expected, seconds)
                if not outcome.errors:
                    outcome.errors += unlike(facts(project.root), left)
            print(number, outcome, outcome.wrong(), file=sys.stderr, flush=True)
            outcomes.append(outcome)
            shutil.rmtree(folder, ignore_errors=True)
    kinds = sorted({(outcome.way, outcome.victim) for outcome in outcomes})
    rows = [
        _row(way, victim, [one for one in outcomes if (one.way, one.victim) == (way, victim)]) for way, victim in kinds
    ]
    words = (
        "SIGKILL at a random moment, then the same command again, or a worker, and nothing by hand. Right: the bytes "
        "of data, models and scores of a run that was never stopped, each value in MLflow as often as there, one "
        "finished run of the training, one version, one decision, never two trainers at once, and no process that the "
        f"victim had started lives on for {LONGEST_ORPHAN:.0f} seconds."
    )
    if torn := sum(outcome.torn for outcome in outcomes):
        words += f" {torn} times `dvc repro` refused its own lock, torn by the kill, and `make run` was typed."
    columns = ("run by", "killed", "trials", "killed before the end", "right", "longest orphan, s")
    return Table("kills", columns, tuple(rows), words)


def _row(way: str, victim: str, outcomes: list[Outcome]) -> tuple[str, ...]:
    right = sum(not outcome.wrong() for outcome in outcomes)
    counts = (len(outcomes), sum(outcome.killed for outcome in outcomes), right)
    return way, victim, *map(str, counts), f"{max(outcome.orphan for outcome in outcomes):.1f}"
