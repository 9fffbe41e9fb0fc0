"""Overhead of DVC and Prefect: with nothing to do, and with every stage to run, beside the stages' own processes.

A clone of this project with tiny parameters, a bare DVC project of six stages that copy a file, and a Prefect server of
its own, all in a temporary folder. Before everything runs, DVC's lock and its run-cache are deleted, so that DVC and
the flow restore nothing. About 15 minutes on two cores.
"""

import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import yaml

from benchmarks.harness.rounds import Times, difference, in_turns, ratio, seconds
from benchmarks.harness.tables import Table
from tests.project import Project, clone, environment
from tests.servers import BIN, QUIET, answers, free_port, running, wait_for

IDLE_ROUNDS = 7
ROUNDS = 3
DVC = [sys.executable, "-m", "dvc", "repro"]
SIX = range(1, 7)
BARE, REPRO, FLOW, STAGES = "bare project", "dvc repro", "the flow", "the stages alone"


def bare_project(folder: Path) -> Path:
    """Make a DVC project of six stages, each of which copies one small file, and run it once."""
    folder.mkdir()
    (folder / "0.txt").write_text("0\n")
    stages = {f"s{n}": {"cmd": f"cp {n - 1}.txt {n}.txt", "deps": [f"{n - 1}.txt"], "outs": [f"{n}.txt"]} for n in SIX}
    (folder / "dvc.yaml").write_text(yaml.safe_dump({"stages": stages}))
    for command in (["git", "init", "-q"], [sys.executable, "-m", "dvc", "init", "-q"], DVC):
        subprocess.run(command, cwd=folder, env=environment(), check=True, capture_output=True)
    return folder


def alone(project: Project, locked: dict[str, Any]) -> float:
    """Return the time of the stages' own processes, one after the other, as dvc.lock names their commands."""
    total = 0.0
    for entry in locked.values():
        for out in entry["outs"]:
            path = project.root / out["path"]
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
        command = [sys.executable, *shlex.split(entry["cmd"])[1:]]
        total += seconds(command, project.root, environment())
    return total


def from_nothing(project: Project, way: Callable[[], float]) -> float:
    """Return the time of a way of running the pipeline after DVC's lock and run-cache are deleted.

    Before that, the stage `code` notes as the pipeline's what DVC has put in the places of outputs.
    """
    ended = project.run(sys.executable, "-m", "stages", "code", "reports/digests")
    assert ended.returncode == 0, ended.stdout
    (project.root / "dvc.lock").unlink(missing_ok=True)
    shutil.rmtree(project.root / ".dvc/cache/runs", ignore_errors=True)
    return way()


def measured(folder: Path) -> tuple[Times, Times, int]:
    """Return the times with nothing to do, those with everything to run, and the number of stages."""
    bare, project = bare_project(folder / "bare"), clone(folder / "project")
    project.dvc("repro")
    locked = yaml.safe_load((project.root / "dvc.lock").read_text())["stages"]
    port = str(free_port())
    address, server = f"http://127.0.0.1:{port}", (str(BIN / "prefect"), "server", "start", "--port", port)
    variables = environment(**QUIET, PREFECT_API_URL=f"{address}/api")
    ways: dict[str, Callable[[], float]] = {
        REPRO: lambda: seconds(DVC, project.root, variables),
        FLOW: lambda: seconds([sys.executable, "-m", "flows"], project.root, variables),
    }
    with running(project, folder / "server.log", *server):
        wait_for(
            lambda: answers(f"{address}/api/health"), f"{address}: Prefect does not answer; see {folder}/server.log"
        )
        idle = in_turns("nothing to do", {BARE: lambda: seconds(DVC, bare, variables)} | ways, IDLE_ROUNDS)
        everything: dict[str, Callable[[], float]] = {STAGES: lambda: alone(project, locked)}
        everything |= {name: partial(from_nothing, project, way) for name, way in ways.items()}
        return idle, in_turns("everything runs", everything, ROUNDS), len(locked)


def table() -> Table:
    """Measure, with nothing to do and with everything to run."""
    with TemporaryDirectory() as folder:
        idle, full, stages = measured(Path(folder))

    def row(case: str, times: Times, way: str, other: str) -> tuple[str, ...]:
        more = difference(times, way, other)
        medians = (f"{median(times[name]):.2f}" for name in (way, other))
        return f"{case}: {way} / {other}", *medians, f"{ratio(times, way, other):.2f}", f"{more / stages:+.2f}"

    rows = (
        row("nothing to do", idle, REPRO, BARE),
        row("nothing to do", idle, FLOW, REPRO),
        row("everything runs", full, REPRO, STAGES),
        row("everything runs", full, FLOW, REPRO),
    )
    words = (
        f"The pipeline of {stages} stages with tiny parameters, in a clone of its own; the bare project has six stages "
        f"that copy a file. Medians of {IDLE_ROUNDS} rounds with nothing to do and of {ROUNDS} with everything to run; "
        "ratio and difference are medians within a round. The stages alone are their processes, start-up included."
    )
    columns = ("case", "first, s", "second, s", "ratio", "difference a stage, s")
    return Table("overhead of DVC and Prefect", columns, rows, words)
