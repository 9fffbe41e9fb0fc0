"""`gan-sweep` on one and on two workers, then with a worker and the sweep killed, beside the default parameters.

A worker runs one trial at a time, on one thread. One and two workers get other trials, so the sweeps that are timed
search the learning rates alone, which change no time, and prune nothing; their trainings are short. About an hour.
"""

import json
import random
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from subprocess import Popen
from tempfile import TemporaryDirectory
from typing import Any

import psutil  # type: ignore[import-untyped]  # has no stubs among the locked packages
import yaml

from benchmarks.harness.processes import processes
from benchmarks.harness.tables import Table
from tests.project import ROOT, Project, clone
from tests.servers import BIN, Deployment, FlowRun, running, serving

RATES = {
    "train.generator_learning_rate.start": {"low": 2e-4, "high": 4e-3, "log": True},
    "train.discriminator_learning_rate.start": {"low": 2e-4, "high": 4e-3, "log": True},
}
SPACE = RATES | {
    "train.r1_gamma": {"low": 0.03, "high": 3, "log": True},
    "train.r2_gamma": {"low": 0.03, "high": 3, "log": True},
    "network.generator_width": {"low": 128, "high": 512, "step": 128},
    "train.ema_decay": [0.99, 0.995, 0.999],
}
UNSEEN = {"train.seed": 1_000_000, "replicate.seeds": 4}
"""What the best trial is trained under again; the default parameters are, too."""
TIMED_STEPS = 3000
"""Of a training of the sweeps that are timed; the sweep that is killed has the committed parameters."""
ENDED = ("COMPLETED", "FAILED", "CRASHED", "CANCELLED")
LONGEST = 6 * 3600.0
"""Seconds that a sweep may take."""


@dataclass
class Arm:
    """Servers, workers and a project of their own."""

    deployed: Deployment
    logs: Path
    stack: ExitStack
    workers: list["Popen[bytes]"]

    def work(self, queue: str, *options: str) -> "Popen[bytes]":
        """Start a worker of a queue."""
        name = f"{queue}-{len(self.workers)}"
        command = (str(BIN / "prefect"), "worker", "start", "--pool", "local", "--type", "process", "--name", name)
        variables = {"PREFECT_API_URL": f"{self.deployed.address}/api", "PREFECT_WORKER_QUERY_SECONDS": "2"}
        variables |= {"EQUILIBRIUM_SLOTS": "2", "TMPDIR": str(self.logs), "OMP_NUM_THREADS": "1", "MPLBACKEND": "Agg"}
        log = self.logs / f"{name}.log"
        started = running(self.deployed.project, log, *command, "--work-queue", queue, *options, **variables)
        self.workers.append(self.stack.enter_context(started))
        return self.workers[-1]

    def finished(self, run: FlowRun) -> dict[str, Any]:
        """Wait for the end of a flow run and return its last state; one that crashed may start again."""
        end = time.monotonic() + LONGEST
        while time.monotonic() < end:
            state = self.deployed.state(run)
            if state["type"] in ENDED and state["type"] != "CRASHED":
                return state
            time.sleep(1)
        raise TimeoutError(f"flow run {run.id} does not end")

    def runs(self, sweep: str) -> list[dict[str, Any]]:
        """Return the flow runs of the trials of a sweep."""
        answer: list[dict[str, Any]] = self.deployed.ask(
            "flow_runs/filter", flow_runs={"tags": {"all_": [f"sweep:{sweep}"]}}
        )
        return [run for run in answer if run["parameters"]["to_registry"] is False]

    def artifact(self, run_id: str, key: str) -> dict[str, Any]:
        """Return the newest artifact of a flow run."""
        filters = {"flow_runs": {"id": {"any_": [run_id]}}, "artifacts": {"key": {"any_": [key]}}}
        found: dict[str, Any] = self.deployed.ask("artifacts/filter", **filters, sort="CREATED_DESC")[0]
        return found


@contextmanager
def arm(prepared: Project, folder: Path, workers: int) -> Iterator[Arm]:
    """Copy a project, serve Prefect for it, deploy, and start workers of one trial each, and one for sweeps."""
    folder.mkdir()
    project = prepared.copy(folder / "project")
    server = (str(BIN / "prefect"), "server", "start", "--host", "127.0.0.1", "--port")
    with ExitStack() as stack:
        address = stack.enter_context(
            serving(project, folder / "server.log", *server, health="/api/health", api="/api")
        )
        deployed = Deployment(project, address)
        assert deployed.prefect("work-pool", "create", "local", "--type", "process", "--overwrite").returncode == 0
        ended = deployed.prefect("deploy", "--all")
        assert ended.returncode == 0, ended.stdout
        create = "from flows.worker import create_automations; create_automations()"
        assert project.run(sys.executable, "-c", create, PREFECT_API_URL=f"{address}/api").returncode == 0
        made = Arm(deployed, folder, stack, [])
        made.work("sweeps")
        for _ in range(workers):
            made.work("default", "--limit", "1")
        yield made


def start(one: Arm, name: str, space: dict[str, Any], trials: int, at_once: int, **more: Any) -> FlowRun:
    """Start a sweep."""
    asked = {"name": name, "space": space, "trials": trials, "at_once": at_once} | more
    return one.deployed.run(*[f"--param={key}={json.dumps(value)}" for key, value in asked.items()], flow="gan-sweep")


def timed(prepared: Project, folder: Path, trials: int, workers: int) -> tuple[float, dict[str, int]]:
    """Return seconds and states of a sweep on so many workers, nothing killed or pruned."""
    with arm(prepared, folder, workers) as one:
        began = time.monotonic()
        run = start(one, "timed", RATES, trials, workers, prune=False)
        state = one.finished(run)
        seconds = time.monotonic() - began
        assert state["type"] == "COMPLETED", state["message"]
        return seconds, counts(one, "timed")


def counts(one: Arm, sweep: str) -> dict[str, int]:
    """Return how many flow runs of a sweep there are, and how many completed, were pruned, failed."""
    runs = one.runs(sweep)
    kinds = {"completed": "COMPLETED", "pruned": "CANCELLED", "failed": "FAILED", "crashed": "CRASHED"}
    return {"runs": len(runs)} | {word: sum(run["state_type"] == kind for run in runs) for word, kind in kinds.items()}


def killed(one: Arm, trials: int, seed: int) -> tuple[float, dict[str, int], FlowRun]:
    """Sweep with the gate; at random moments kill a worker with its trial, and the sweep; nothing is done by hand.

    Another worker starts, as a service manager would start it.
    """
    rng = random.Random(seed)
    began = time.monotonic()
    run = start(one, "killed", SPACE, trials, 2, to_gate=True)

    def done(count: int) -> bool:
        return one.deployed.state(run)["type"] in ENDED or counts(one, "killed")["completed"] >= count

    wait_long(lambda: done(1))
    time.sleep(rng.uniform(0, 10))
    one.workers[1].kill()
    one.work("default", "--limit", "1")
    wait_long(lambda: done(2))
    time.sleep(rng.uniform(0, 10))
    for process in processes("flow", one.deployed.project.root):
        with suppress(psutil.Error):
            if process.environ().get("PREFECT__FLOW_RUN_ID") == run.id:
                process.send_signal(signal.SIGKILL)
                print("the sweep is killed", file=sys.stderr)
    state = one.finished(run)
    seconds = time.monotonic() - began
    assert state["type"] == "COMPLETED", state["message"]
    return seconds, counts(one, "killed"), run


def wait_long(condition: Any) -> None:
    """Wait until a condition holds, for as long as a sweep may take."""
    end = time.monotonic() + LONGEST
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError
        time.sleep(1)


def scores_of(one: Arm, run_id: str) -> str:
    """Return FID over seeds that no trial had, with its 95 % interval."""
    data = one.artifact(run_id, "gan-scores")["data"]
    (row,) = [row for row in (json.loads(data) if isinstance(data, str) else data) if row["score"].startswith("fid")]
    return f"{row['seeds_mean']:.3f} [{row['seeds_low']:.3f}, {row['seeds_high']:.3f}]"


def compared(one: Arm) -> tuple[str, str]:
    """Return FID of the best trial and of the default parameters, each over the same unseen seeds."""
    runs = one.deployed.ask("flow_runs/filter", flow_runs={"tags": {"all_": ["sweep:killed"]}})
    (gate,) = [run for run in runs if run["parameters"]["to_registry"] is True]
    default = one.deployed.run(f"--param=overrides={json.dumps(UNSEEN)}", "--param=to_registry=false")
    state = one.finished(default)
    assert state["type"] == "COMPLETED", state["message"]
    return scores_of(one, gate["id"]), scores_of(one, default.id)


def prepare(folder: Path, steps: int) -> Project:
    """Return a project with the committed parameters, data and extractor; with other steps if there are any."""
    project = clone(folder)
    project.root.joinpath("params.yaml").write_bytes((ROOT / "params.yaml").read_bytes())
    if steps:
        every = max(steps // 20, 1)
        project.set(train={"steps": steps, "sample_every": every * 5, "checkpoint_every": every, "report_every": every})
        project.set(extractor={"epochs": 2}, evaluate={"banks": 4})
    project.commit()
    project.dvc("repro", "extractor")
    project.commit()
    assert yaml.safe_load(project.root.joinpath("params.yaml").read_text())["compute"]["threads"] == 1
    return project


def table(trials: str = "12", steps: str = "0", seed: str = "0") -> Table:
    """Sweep so many trials; `steps`, if not 0, makes all trainings short, for a try of this benchmark."""
    count = int(trials)
    with TemporaryDirectory() as name:
        short = prepare(Path(name, "short"), int(steps) or TIMED_STEPS)
        one, states = timed(short, Path(name, "one"), count, 1)
        rows = [_row("1 worker", one, states, "")]
        two, states = timed(short, Path(name, "two"), count, 2)
        rows.append(_row("2 workers", two, states, f"{two / one:.2f}"))
        print(*rows, sep="\n", file=sys.stderr, flush=True)
        prepared = prepare(Path(name, "prepared"), int(steps))
        with arm(prepared, Path(name, "killed"), 2) as both:
            seconds, states, run = killed(both, count, int(seed))
            rows.append(_row("2 workers, killed", seconds, states, ""))
            found = both.artifact(run.id, "gan-sweep")
            keep(found["data"])
            best, default = compared(both)
    words = (
        f"{found['description']} FID over five seeds that no trial had: the best trial {best}, the default parameters "
        f"{default}. A trial has one flow run, whatever was killed. The sweep with kills prunes, and its "
        "time includes the training for the gate."
    )
    columns = ("sweep", "wall, s", "ratio", "flow runs", "completed", "pruned", "failed or crashed")
    return Table("sweep", columns, tuple(rows), words)


def keep(page: str) -> None:
    """Keep the page of a sweep, to be looked at."""
    target = Path("benchmarks", "results", "sweep.md")
    target.parent.mkdir(exist_ok=True)
    target.write_text(page)


def _row(name: str, seconds: float, states: dict[str, int], ratio: str) -> tuple[str, ...]:
    wrong = states["failed"] + states["crashed"]
    return name, f"{seconds:.0f}", ratio, *(str(states[key]) for key in ("runs", "completed", "pruned")), str(wrong)
