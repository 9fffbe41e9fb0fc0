"""A disk that is full where something is written, and what the same command makes of it with room again.

`python -m benchmarks full_disks [WORDS]`: all points, or those whose name has the words. Each has a copy of a project
on a disk in memory, which is filled in the moment before the write: the kernel refuses it, or takes its first pages.
Then there is room, and the same is typed again. Mounting takes root. Half an hour.
"""

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.harness.facts import facts, unlike, untouched
from benchmarks.harness.small_disk import PAGE, Moment, small_disk
from benchmarks.harness.tables import Table
from mlops.project.errors import UserError
from mlops.project.identity import dvc_md5, file_digest
from tests.project import Project

TRAINING = {"steps": 300, "report_every": 7, "sample_every": 100, "checkpoint_every": 50}
REPRO, RUN = ("dvc", "repro"), ("flows",)
GENERATE = ("commands.generate", "30", "generated/some")
PROMOTE = ("commands.promote", "promote", "2", "--reason", "a trial")
PRESET = ("commands.preset", "mnist-dcgan")
COMMANDS = {REPRO: "dvc repro", RUN: "make run"}
CHECKPOINT, DATABASE, CACHE = r"\.next\.safetensors", r"mlflow\.db", r"\.dvc/cache/files/md5/"


@dataclass(frozen=True)
class Point:
    """A write of a command in a copy of the project `state`; the disk is that of the project, or of a folder of it."""

    name: str
    state: str
    command: tuple[str, ...]
    moment: Moment
    disk: str = ""


POINTS = (
    Point("fetch: an original file", "new", REPRO, Moment(r"\.raw\..*\.partial/raw/")),
    Point("prepare: pixels, in the midst", "new", REPRO, Moment(r"images_train\.npy", 3 * PAGE)),
    Point("prepare: labels", "new", REPRO, Moment(r"labels_train\.npy")),
    Point("prepare: the manifest", "new", REPRO, Moment(r"labels_test\.npy", PAGE)),
    Point("extractor: weights, in the midst", "new", REPRO, Moment(r"\.extractor\..*\.partial/", PAGE)),
    Point("train: the first checkpoint", "prepared", REPRO, Moment(CHECKPOINT)),
    Point("train: a later checkpoint, in the midst", "prepared", REPRO, Moment(CHECKPOINT, 2 * PAGE, 3)),
    Point("train: a row of the history", "prepared", REPRO, Moment(r"/next\.safetensors", 0, 2, "os.rename")),
    Point("train: a sample grid", "prepared", REPRO, Moment(r"samples/\.step_", 0, 2)),
    Point("train: a snapshot, in the midst", "prepared", REPRO, Moment(r"snapshots/\.step_", PAGE, 5)),
    Point("train: an output", "prepared", REPRO, Moment(r"\.partial/training/training\.json")),
    Point("train: MLflow, on its own disk", "prepared", REPRO, Moment(DATABASE, 0, 4, "sqlite3.connect"), ".mlflow"),
    Point("train: a checkpoint", "prepared", RUN, Moment(CHECKPOINT, PAGE, 4)),
    Point("DVC's cache, on its own disk", "prepared", REPRO, Moment(CACHE, PAGE), ".dvc/cache"),
    Point("DVC's cache", "prepared", RUN, Moment(CACHE, PAGE)),
    Point("dvc.lock", "prepared", REPRO, Moment(r"dvc\.lock$")),
    Point("DVC's list of used files", "prepared", REPRO, Moment(r"\.dvc/tmp/rwlock$")),
    Point("replicate: a checkpoint", "prepared", REPRO, Moment(CHECKPOINT, PAGE, 9)),
    Point("choose: the generator", "prepared", REPRO, Moment(r"\.generator\.safetensors\..*\.partial/")),
    Point("diagnose: a picture", "prepared", REPRO, Moment(r"\.diagnosis\..*\.partial/.*png", PAGE)),
    Point("evaluate: scores", "prepared", REPRO, Moment(r"\.evaluation\..*\.partial/")),
    Point("register: MLflow's database", "trained", REPRO, Moment(DATABASE, 0, 4, "sqlite3.connect")),
    Point("register: an artifact", "trained", REPRO, Moment(r"\.mlflow/artifacts/")),
    Point("register: the ledger", "trained", REPRO, Moment(r"/ledger\.jsonl$")),
    Point("register: the ledger's copy", "trained", REPRO, Moment(r"\.checkpoints/ledger\.new$")),
    Point("register: its output", "trained", REPRO, Moment(r"\.partial/registration\.json")),
    Point("promote: the ledger or the database", "two", PROMOTE, Moment(r"/ledger\.jsonl$")),
    Point("promote: the ledger's copy", "two", PROMOTE, Moment(r"\.checkpoints/ledger\.new$")),
    Point("generate: an image", "two", GENERATE, Moment(r"images/000010\.png")),
    Point("generate: the manifest", "two", GENERATE, Moment(r"manifest\.csv")),
    Point("preset: params.yaml", "two", PRESET, Moment(r"^params\.yaml\.\d+$")),
)


def typed(project: Project, command: tuple[str, ...], **variables: str) -> subprocess.CompletedProcess[str]:
    """Run what a person types."""
    return project.run(sys.executable, "-m", *command, **variables)


def with_files(root: Path) -> dict[str, Any]:
    """Return facts, and the sums of parameters and generated images."""
    files = [root / "params.yaml", *sorted((root / "generated").rglob("*.*"))]
    return facts(root) | {"files": {str(path.relative_to(root)): file_digest(path) for path in files}}


def halves(root: Path, expected: dict[str, str]) -> list[str]:
    """Return the outputs that are there, but not whole."""
    there = {path: root / path for path in expected if (root / path).exists()}
    return [
        path
        for path, place in there.items()
        if (dvc_md5(place) if place.is_dir() else file_digest(place, "md5")) != expected[path]
    ]


def trained_again(again: str, *, had_trained: bool) -> str:
    """Return what the second run did of a training of which the first left a checkpoint, or its end."""
    if went_on := re.search(r"train: (going on from step \d+|finished already)", again):
        return f"no: {went_on[1]}"
    return "yes" if had_trained and re.search(r"Running stage 'train'|train: steps", again) else "no"


def trial(point: Point, state: Project, folder: Path, expected: dict[str, Any]) -> tuple[str, ...]:
    """Fill the disk at a point, make room, type the same again, and return the row of the table."""
    root = folder / "disk" / "project"
    with small_disk(root / point.disk if point.disk else root.parent) as disk:
        shutil.copytree(state.root, root, symlinks=True, dirs_exist_ok=True)
        project = Project(root, {"EQUILIBRIUM_SLOTS": "1", "TMPDIR": str(folder)})
        project.check_store()
        first = typed(project, point.command, **disk.variables(point.moment, folder / "hook"))
        was_full = disk.make_room()
        had_trained = any((root / ".checkpoints").glob("*/state.safetensors")) or (root / "models/snapshots").exists()
        half = halves(root, expected["data and models"]) if point.state != "two" else []
        again = typed(project, point.command)
        decided = point.command == PROMOTE and "holds the champion's weights already" in again.stdout
        left = with_files(root) if again.returncode == 0 or decided else {}
    named = re.findall(r"(\S+) could not be written, ([\d,]+) bytes are free", first.stdout)
    wrong = ["was never full"] * (not was_full) + ["a traceback"] * ("Traceback" in first.stdout)
    wrong += [f"half-written: {path}" for path in half] + [f"exit {again.returncode} with room"] * (not left)
    wrong += unlike(left, expected) if left else []
    print(f"== {point.name}", wrong, first.stdout[-2500:], "-- again", again.stdout[-700:], sep="\n", file=sys.stderr)
    error = f"{Path(named[-1][0]).name}, {named[-1][1]} bytes" if named else "neither"
    again_trained = trained_again(again.stdout, had_trained=had_trained) if point.state == "prepared" else "no"
    command = COMMANDS.get(point.command, point.command[0].removeprefix("commands."))
    return point.name, command, str(first.returncode), error, "; ".join(wrong) or "right", again_trained


def states(folder: Path) -> tuple[dict[str, Project], dict[tuple[str, ...], dict[str, Any]]]:
    """Return projects in which nothing was run, or up to a stage, and what each command leaves on a disk with room."""
    new = untouched(folder / "new", TRAINING)
    made = {"new": new}
    for state, before, targets in (
        ("prepared", "new", ("extractor",)),
        ("trained", "prepared", ("evaluate", "diagnose")),
    ):
        made[state] = made[before].copy(folder / state)
        made[state].dvc("repro", *targets)
    whole = made["trained"].copy(folder / "whole")
    whole.dvc("repro")
    made["two"] = whole.copy(folder / "two")
    made["two"].set(train={"seed": 1})
    made["two"].dvc("repro")
    expected = dict.fromkeys((REPRO, RUN), with_files(whole.root))
    for command in (PROMOTE, GENERATE, PRESET):
        project = made["two"].copy(folder / command[0])
        ended = typed(project, command)
        assert ended.returncode == 0, ended.stdout
        expected[command] = with_files(project.root)
    return made, expected


def table(words: str = "") -> Table:
    """Fill the disk at each point whose name has the words."""
    if os.geteuid():
        raise UserError("full_disks mounts file systems, which takes root; run it as root on a machine of yours")
    with TemporaryDirectory() as name:
        made, expected = states(Path(name))
        points = [point for point in POINTS if words in point.name]
        rows = [
            trial(point, made[point.state], Path(name, f"trial-{number}"), expected[point.command])
            for number, point in enumerate(points)
        ]
    right = sum(row[4] == "right" for row in rows)
    summary = (
        f"{len(rows)} points; {right} times all bytes, versions, decisions and values in MLflow are those of a disk "
        "with room, once the same was typed again. The error names what could not be written, and the free bytes."
    )
    columns = ("the disk is full at", "command", "exit", "the error names", "with room again", "trained again")
    return Table("full disks", columns, tuple(rows), summary)
