"""Stages as several ranks, as a user starts them: real processes, real signals."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from mlflow.entities import Run

from gan_core.runtime.distributed import TIMEOUT
from gan_core.runtime.tensor_files import load_tensors
from mlops.tracking.runs import connect
from tests.servers import wait_for

ROOT = Path(__file__).parents[3]
pytestmark = pytest.mark.slow
PATHS = "snapshots", "training"
Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def start(root: Path, prepared: Path) -> Start:
    """Return a function that starts `train` on the digits with changes to `train` in params.yaml."""

    def run(
        processes: int, *launcher: str, stage: str = "train", paths: tuple[str, ...] = PATHS, **changes: Any
    ) -> Any:
        values = yaml.safe_load((ROOT / "params.yaml").read_text())
        values["compute"]["device"], values["execution"]["processes"] = "cpu", processes
        values["network"] |= {"generator_width": 16, "discriminator_width": 16, "dropout": 0.2}
        often = {"batch_size": 16, "report_every": 10, "sample_every": 10**6, "checkpoint_every": 20}
        values["train"] |= often | changes
        values["evaluate"]["banks"], values["replicate"]["seeds"] = 5, 1
        (root / "params.yaml").write_text(yaml.safe_dump(values))
        command = [*(launcher or (sys.executable,)), "-m", "stages", stage, str(prepared), *paths]
        said = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        return subprocess.Popen(command, env=os.environ | {"PYTHONPATH": str(ROOT)}, **said)  # type: ignore[call-overload]

    return run


def ended(process: subprocess.Popen[str]) -> tuple[int, list[str]]:
    """Return exit status and lines of a stage; it closes its output when the last of its ranks is gone."""
    said, _ = process.communicate()
    return process.returncode, [line for line in said.splitlines() if line.strip()]


def checkpoint(root: Path) -> Path:
    """Wait for a checkpoint."""
    wait_for(lambda: any(root.glob(".checkpoints/*/state.safetensors")), "there is no checkpoint")
    return next(root.glob(".checkpoints/*/state.safetensors"))


def ranks(process: subprocess.Popen[str]) -> list[int]:
    """Return the processes of a stage's ranks, in their order."""
    found = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    return sorted(map(int, found))


def lives(process: int) -> bool:
    """Say whether a process runs; an orphan that ended is there until somebody asks how."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rsplit(")")[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def history(folder: Path) -> np.ndarray[Any, Any]:
    return pd.read_csv(folder / "training" / "history.csv").to_numpy()


def test_a_killed_rank_ends_the_stage_and_any_number_goes_on(start: Start, root: Path) -> None:
    """Steps of two ranks, of which one is killed, and more of one process are those of one process up to rounding."""
    lasting = {"steps": 300}
    broken = start(2, **lasting)
    checkpoint(root)
    os.kill(ranks(broken)[1], signal.SIGKILL)
    began = time.monotonic()
    status, lines = ended(broken)
    assert time.monotonic() - began < TIMEOUT.total_seconds()  # the other rank has not waited for it
    assert status == 1
    step = load_tensors(checkpoint(root))[1]["step"]
    assert lines[-1] == f"rank 1 of 2 died (signal 9); run again: training goes on from step {step}"
    assert sum("rank" in line for line in lines) == 2  # the other line says how the training is carried out
    again = ended(start(1, **lasting))
    assert again[0] == 0
    assert any(f"going on from step {step} of 300" in line for line in again[1])
    mixed = history(root)
    facts = json.loads((root / "training" / "training.json").read_text())
    assert facts["parameters"]["execution"]["processes"] == 1
    for path in PATHS:
        shutil.rmtree(root / path)
    assert ended(start(1, **lasting))[0] == 0
    assert np.allclose(mixed, history(root), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(("told", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGKILL, -9)])
def test_who_is_told_to_end_ends_all_ranks(start: Start, root: Path, told: signal.Signals, status: int) -> None:
    process = start(2, steps=10**7, seed=20 + told)
    checkpoint(root)
    client, experiment = connect()

    def runs() -> list[Run]:
        return [*client.search_runs([experiment], f"params.`train.seed` = '{20 + told}'")]

    # those of the machine, or of the training: the run is open
    wait_for(lambda: any(run.data.metrics for run in runs()), "MLflow has no metrics")
    played = ranks(process)
    process.send_signal(told)
    found, lines = ended(process)
    assert found == status
    # A process closes its output a moment before it is gone.
    wait_for(lambda: not any(map(lives, played)), f"ranks {played} live on")
    assert not any(line.startswith(("error", "Traceback")) for line in lines)
    if told != signal.SIGKILL:
        (step,) = (
            re.findall(r"^stopped at step ([\d,]+) of 10,000,000; ", line) for line in lines if "stopped" in line
        )
        assert int(step[0].replace(",", "")) == load_tensors(checkpoint(root))[1]["step"]
    if told != signal.SIGKILL:  # ranks without a launcher have 10 seconds, too few on a busy machine to close the run
        assert [run.info.status for run in runs()] == ["KILLED"]


def test_an_error_is_said_once(start: Start, root: Path) -> None:
    status, lines = ended(start(2, steps=50, generator_learning_rate=1e30, discriminator_learning_rate=1e30))
    assert status == 1
    assert [line for line in lines if "error" in line.lower()] == lines[-1:]
    assert lines[-1].startswith("error: training stopped: divergence, seen since step ")


def test_scores_do_not_depend_on_the_number_of_processes(start: Start, root: Path) -> None:
    """Three ranks share five banks unevenly; retraining is shared as well."""
    assert ended(start(2, steps=20))[0] == 0
    assert ended(start(2, stage="replicate", paths=("replicated",), steps=20))[0] == 0
    assert ended(start(1, stage="extractor", paths=("extractor",)))[0] == 0
    inputs = "extractor", "generator.safetensors", "replicas"
    chosen = "extractor", PATHS[0], "replicated", *inputs[1:], "choice"
    assert ended(start(1, stage="choose", paths=chosen))[0] == 0
    for processes in (1, 3):
        share = {"stage": "evaluate", "paths": (*inputs, f"scores-{processes}"), "batch_size": 48}
        assert ended(start(processes, **share))[0] == 0
    one, three = ({file.name: file.read_bytes() for file in (root / f"scores-{n}").iterdir()} for n in (1, 3))
    assert one == three
    assert json.loads(one["scores.json"])["trainings"] == 2


def test_two_nodes_are_started_by_hand(start: Start, root: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    meeting = ["--rdzv-backend", "c10d", "--rdzv-endpoint", f"127.0.0.1:{port}", "--rdzv-id", "gan"]
    launcher = [str(Path(sys.executable).with_name("torchrun")), "--nnodes", "2", "--nproc-per-node", "1", *meeting]
    nodes = [start(1, *launcher, steps=20) for _ in range(2)]
    assert [ended(node)[0] for node in nodes] == [0, 0]
    by_hand = history(root)
    facts = json.loads((root / "training" / "training.json").read_text())
    assert facts["parameters"]["execution"]["processes"] == 2
    shutil.rmtree(root / PATHS[0])
    shutil.rmtree(root / "training")
    assert ended(start(2, steps=20))[0] == 0
    assert (history(root) == by_hand).all()
