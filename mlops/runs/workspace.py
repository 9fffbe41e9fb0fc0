"""Where a training keeps what it resumes from: outside DVC's outputs, which DVC deletes before it runs a stage."""

import csv
import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Self

from mlops.project.identity import project_root
from mlops.project.result_files import HISTORY, SAMPLES, SNAPSHOTS
from mlops.safety.locks import ORPHANED, locked
from mlops.safety.written_files import delete_written

CHECKPOINT = "state.safetensors"


def training_key(parameters: dict[str, Any], data_md5: str, made_by: dict[str, str]) -> str:
    """Return 16 hexadecimal digits that name a training: the start of sha256 over all that its bits depend on.

    `made_by` is code, torch and kind of device: a training is resumed only under the same.
    """
    named = json.dumps([parameters, data_md5, made_by], sort_keys=True)
    return hashlib.sha256(named.encode()).hexdigest()[:16]


class Workspace:
    """`.checkpoints/KEY/`, locked by one process at a time, as long as it runs."""

    def __init__(self, key: str, *, wait: float = ORPHANED) -> None:
        self._wait = wait
        self.folder = project_root() / ".checkpoints" / key
        self.checkpoint = self.folder / CHECKPOINT
        self.history = self.folder / HISTORY
        self.samples = self.folder / SAMPLES
        self.snapshots = self.folder / SNAPSHOTS

    def __enter__(self) -> Self:
        work = "trains with the same parameters and data"
        self._lock = locked(self.folder, work, "training goes on from its last checkpoint", self._wait)
        self._lock.__enter__()
        self.samples.mkdir(parents=True, exist_ok=True)
        self.snapshots.mkdir(exist_ok=True)
        return self

    def __exit__(self, *_: object) -> None:
        self._lock.__exit__(None, None, None)

    @contextmanager
    def open_history(self, columns: Sequence[str], *, keep_to: int) -> Iterator["csv.DictWriter[str]"]:
        """Open the history for more rows, which are in the file as soon as they are written.

        Those that a stopped run wrote after its last checkpoint, at the step `keep_to`, are dropped; 0 begins anew. The
        first of `columns` is the step.
        """
        lines = self.history.read_text().splitlines(keepends=True)[1:] if keep_to else []
        kept = [line for line in lines if line.endswith("\n") and int(line.split(",")[0]) <= keep_to]
        with self.history.open("w", newline="", buffering=1) as file:
            rows = csv.DictWriter(file, columns, lineterminator="\n")
            rows.writeheader()
            file.writelines(kept)
            yield rows

    def discard(self) -> None:
        """Delete what this class has written, once the training's outputs are written."""
        pictures, generators = f"{SAMPLES}/step_*.png", f"{SNAPSHOTS}/*step_*.safetensors*"
        delete_written(self.folder, pictures, generators, f".{CHECKPOINT}.*", CHECKPOINT, HISTORY, "lock")
