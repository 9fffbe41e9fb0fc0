"""How a rank ends: what `mlops.runs.launcher` hears of it. Whole stages are in `test_launch`."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
PROGRAM = """
import signal, sys
from gan_core.runtime.distributed import LostRankError
from mlops.project import params
from mlops.project.errors import UserError
from mlops.runs.worker import run_rank

def stage(values):
    print(f"plays among {values.execution.processes}")
    END

run_rank(stage, params.load())
"""


@pytest.mark.parametrize(
    ("end", "status", "told"),
    [
        ("pass", 0, None),
        ("raise UserError('mend this')", 1, "mend this"),
        ("raise LostRankError('gone. Good luck!')", 75, "rank 0 of 1 lost another: gone"),
        ("sys.exit(143)", 143, None),
        ("raise KeyboardInterrupt", 130, None),
        ("1 / 0", 1, None),
    ],
)
def test_a_rank_ends_as_its_launcher_understands(tmp_path: Path, end: str, status: int, told: str | None) -> None:
    (tmp_path / "params.yaml").write_text((ROOT / "params.yaml").read_text())
    file = tmp_path / "error.json"
    own = {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0", "TORCHELASTIC_ERROR_FILE": str(file)}
    ended = subprocess.run(
        [sys.executable, "-c", PROGRAM.replace("END", end)],
        cwd=tmp_path,
        env=os.environ | own | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == status
    assert ended.stdout == "plays among 1\n"
    assert (json.loads(file.read_text())["message"] if file.exists() else None) == told
    assert ("Traceback" in ended.stderr) == (end == "1 / 0")
