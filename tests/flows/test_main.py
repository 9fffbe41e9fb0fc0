"""`python -m flows` at a signal, as in a terminal: all of its group get it, the temporary server too."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from gan_core.runtime.tensor_files import load_tensors
from tests.project import LONGER, Project, environment
from tests.servers import end, stage_processes, wait_for


@pytest.mark.slow
def test_ctrl_c_ends_with_one_line_and_a_checkpoint(finished: Project, tmp_path: Path) -> None:
    place = finished.copy(tmp_path / "copy")
    place.set(train=LONGER | {"steps": 10_000_000, "checkpoint_every": 10_000_000})
    log = tmp_path / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "flows"],
            cwd=place.root,
            env=environment(),
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        checkpoints = place.root / ".checkpoints"
        wait_for(
            lambda: any(path.read_text().count("\n") > 5 for path in checkpoints.glob("*/history.csv")),
            f"training does not start; see {log}",
            process,
        )
        before = len(log.read_text())
        os.killpg(process.pid, signal.SIGINT)
        assert process.wait(60) == 130
        assert stage_processes(place.root) == []
    finally:
        end(process)
    lines = log.read_text()[before:].splitlines()
    assert len(lines) == 1
    step = re.fullmatch(r"stopped at step ([\d,]+) of 10,000,000; make run goes on", lines[0])
    assert step is not None
    (checkpoint,) = checkpoints.glob("*/state.safetensors")
    assert load_tensors(checkpoint)[1]["step"] == int(step[1].replace(",", ""))
