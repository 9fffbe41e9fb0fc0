"""`python -m flows` at a signal, as in a terminal: all of its group get it, the temporary server too."""

import os
import re
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import httpx
import pytest

from gan_core.runtime.tensor_files import load_tensors
from tests.project import LONGER, Project, environment
from tests.servers import BIN, end, serving, stage_processes, wait_for


@pytest.fixture
def api(finished: Project, tmp_path: Path) -> Iterator[str]:
    """Return the API of a Prefect server of its own."""
    place = finished.copy(tmp_path / "served")
    server = (str(BIN / "prefect"), "server", "start", "--host", "127.0.0.1", "--port")
    with serving(place, tmp_path / "server.log", *server, health="/api/health", api="/api") as address:
        yield f"{address}/api"


@pytest.mark.slow
def test_with_nothing_to_do_one_line_says_so_and_no_server_starts(finished: Project, tmp_path: Path) -> None:
    place = finished.copy(tmp_path / "copy")
    server = place.root / ".prefect" / "prefect.db"
    server.unlink(missing_ok=True)
    ended = place.run(sys.executable, "-m", "flows")
    assert ended.returncode == 0, ended.stdout
    (line,) = ended.stdout.splitlines()
    assert line.startswith("nothing to do: code, ")
    assert line.endswith("register are up to date")
    assert not server.exists()


def stop(place: Project, log: Path, api: str | None) -> int:
    """Run the flow, let Ctrl-C end it while it trains, and return the step that it says, which is its checkpoint's."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "flows"],
            cwd=place.root,
            env=environment(**({"PREFECT_API_URL": api} if api else {})),
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        checkpoints = place.root / ".checkpoints"
        rows = sum(path.read_text().count("\n") for path in checkpoints.glob("*/history.csv"))
        wait_for(
            lambda: any(path.read_text().count("\n") > rows + 5 for path in checkpoints.glob("*/history.csv")),
            f"training does not start; see {log}",
            process,
        )
        before = len(log.read_text())
        os.killpg(process.pid, signal.SIGINT)
        assert process.wait(60) == 130
        assert stage_processes(place.root) == []
    finally:
        end(process)
    # meanwhile a line of progress may have been printed
    (line,) = (line for line in log.read_text()[before:].splitlines() if not line.startswith("train: step"))
    step = re.fullmatch(r"stopped at step ([\d,]+) of 10,000,000; make run goes on", line)
    assert step is not None
    (checkpoint,) = checkpoints.glob("*/state.safetensors")
    stopped = int(step[1].replace(",", ""))
    assert load_tensors(checkpoint)[1]["step"] == stopped
    return stopped


@pytest.mark.slow
@pytest.mark.parametrize("lasting", [False, True])
def test_ctrl_c_ends_with_one_line_and_a_checkpoint(
    lasting: bool, finished: Project, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    place = finished.copy(tmp_path / "copy")
    api = request.getfixturevalue("api") if lasting else None
    place.set(train=LONGER | {"steps": 10_000_000, "checkpoint_every": 10_000_000})
    step = stop(place, tmp_path / "log", api)
    if api:
        (run,) = httpx.post(f"{api}/flow_runs/filter", json={}, timeout=30).raise_for_status().json()
        assert run["state_type"] == "CANCELLED"
        return
    assert stop(place, tmp_path / "log", None) > step
    with closing(sqlite3.connect(place.root / ".prefect" / "prefect.db")) as database:
        states = database.execute("select state_type from flow_run order by created").fetchall()
    assert [state for (state,) in states] == ["CRASHED", "RUNNING"]
