"""Mixed requests of many clients to a served model, some of them malformed: answers, states, memory.

`python -m benchmarks serving [REQUESTS] [CLIENTS]`. The model is that of the tests' tiny pipeline. What each request
should get is computed in this process. About ten minutes.
"""

import base64
import hashlib
import random
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median, quantiles
from tempfile import TemporaryDirectory
from time import monotonic
from typing import Any

import httpx
import pandas as pd
import psutil  # type: ignore[import-untyped]  # has no stubs among the locked packages
from mlflow.pyfunc.model import PythonModelContext

from benchmarks.harness.tables import Table
from mlops.project.progress import progress
from mlops.tracking.served_model import ServedGenerator
from tests.project import Project, clone
from tests.servers import BIN, TIMEOUT, serving

SEEDS, MALFORMED = 200, 0.1
WARM_UP = 1000
"""Requests before memory is read for the first time."""
BAD: tuple[Any, ...] = (
    {"dataframe_records": [{"seed": 1.5}]},
    {"dataframe_records": [{"seed": True}]},
    {"dataframe_records": [{"seed": 1, "sed": 2}]},
    {"dataframe_records": [{"seed": -1}]},
    {"dataframe_records": [{"seed": 1, "count": 10**9}]},
    {"dataframe_records": [{"seed": "one"}]},
    {"dataframe_records": [{"seed": [1, 2]}]},
    {"dataframe_records": []},
    {"instances": [[1]]},
    {"inputs": {"seed": [1]}},
    {"seed": 1},
    [1, 2],
    "no table",
    b"{",
    b"",
)
"""Bodies; bytes are no JSON."""


def asked(rng: random.Random) -> dict[str, Any]:
    """Return the row of a sound request."""
    row: dict[str, Any] = {"seed": rng.randrange(SEEDS)}
    if rng.random() < 0.5:
        row |= {"count": rng.randint(1, 8), "first": rng.randrange(4)}
    return row


def expected(generator: Path) -> list[list[str]]:
    """Return the sha256 of the first images of each seed."""
    model = ServedGenerator()
    model.load_context(PythonModelContext({"generator": str(generator)}, {}))
    return [
        [
            hashlib.sha256(png).hexdigest()
            for png in model.predict(None, pd.DataFrame({"seed": [seed], "count": [12]})).png
        ]
        for seed in range(SEEDS)
    ]


def ask(client: httpx.Client, number: int, images: list[list[str]]) -> tuple[str, float]:
    """Make a request and return what came of it, and its seconds."""
    rng = random.Random(number)
    bad = rng.choice(BAD) if rng.random() < MALFORMED else None
    row = asked(rng)
    body = bad if bad is not None else {"dataframe_records": [row]}
    sent = (
        {"content": body, "headers": {"Content-Type": "application/json"}}
        if isinstance(body, bytes)
        else {"json": body}
    )
    began = monotonic()
    answer = client.post("/invocations", **sent)
    seconds = monotonic() - began
    if bad is not None:
        return f"malformed: {answer.status_code}", seconds
    if answer.status_code != 200:
        return f"sound: {answer.status_code}", seconds
    found = [hashlib.sha256(base64.b64decode(one["png"])).hexdigest() for one in answer.json()["predictions"]]
    first = row.get("first", 0)
    right = found == images[row["seed"]][first : first + row.get("count", 1)]
    return "sound: 200" if right else "sound: other images", seconds


def memory(address: str) -> float:
    """Return the resident MiB of the process that listens at an address, and of those below it."""
    port = int(address.rsplit(":", 1)[1])
    listening = [one for one in psutil.net_connections("tcp") if one.status == "LISTEN" and one.laddr.port == port]
    processes = {child for one in listening for child in family(one.pid)}
    return float(sum(process.memory_info().rss for process in processes) / 2**20)


def family(pid: int) -> list[psutil.Process]:
    """Return a process and all below it."""
    process = psutil.Process(pid)
    return [process, *process.children(recursive=True)]


def served(
    project: Project, folder: Path, requests: int, clients: int
) -> tuple[Counter[str], list[float], list[float]]:
    """Serve the champion and return counts of what came, seconds, and memory after the warm-up and through the rest."""
    images = expected(project.root / "models" / "generator.safetensors")
    command = (str(BIN / "mlflow"), "models", "serve", "-m", "models:/gan-digits@champion", "--env-manager", "local")
    counts, times, read = Counter[str](), list[float](), list[float]()
    with serving(project, folder / "server.log", *command, "--host", "127.0.0.1", "-p", health="/health") as address:
        limits = httpx.Limits(max_connections=clients)
        with (
            httpx.Client(base_url=address, timeout=TIMEOUT, limits=limits) as client,
            ThreadPoolExecutor(clients) as pool,
            progress("serving: requests", WARM_UP + requests) as line,
        ):
            for first in range(-WARM_UP, requests, WARM_UP):
                outcomes = pool.map(
                    lambda number: ask(client, number, images), range(first, min(first + WARM_UP, requests))
                )
                for what, seconds in outcomes:
                    if first >= 0:
                        counts[what] += 1
                        times.append(seconds)
                read.append(memory(address))
                line.update(first + 2 * WARM_UP)
    return counts, times, read


def table(requests: str = "10000", clients: str = "32") -> Table:
    """Make so many requests from so many clients."""
    with TemporaryDirectory() as name:
        project = clone(Path(name, "project"))
        project.set(register={"max_fid_to_trivial": 1e9, "max_fid_ratio_to_noise": 1e9})
        project.variables["MLFLOW_TRACKING_URI"] = f"sqlite:///{project.root}/.mlflow/mlflow.db"
        project.dvc("repro")
        counts, times, (first, *others) = served(project, Path(name), int(requests), int(clients))
    rows = [(what, str(count)) for what, count in sorted(counts.items())]
    slow, growth = quantiles(times, n=100)[98], max(others) / first - 1
    words = (
        f"{int(requests):,} requests of {clients} clients, a tenth malformed in {len(BAD)} ways. Sound ones ask for 1 "
        f"to 8 images. Half of the answers came within {median(times):.2f} s, 99 % within {slow:.2f}. Memory: "
        f"{first:.0f} MiB after {WARM_UP:,} requests, at most {max(others):.0f} afterwards, {growth:+.1%}."
    )
    return Table("serving", ("request: answer", "count"), tuple(rows), words)
