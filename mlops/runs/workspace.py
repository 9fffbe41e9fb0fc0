"""Where a training keeps what it resumes from: outside DVC's outputs, which DVC deletes before it runs a stage."""

import csv
import hashlib
import json
import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Self

from gan_core.training.checkpoints import CheckpointError, checkpoint_metadata, restore_checkpoint, save_checkpoint
from gan_core.training.state import TrainState
from mlops.project.identity import project_root
from mlops.project.result_files import HISTORY, SAMPLES, SNAPSHOTS
from mlops.runs.kept_work import CHECKPOINT, NEXT, PREVIOUS, hand_over, note_made
from mlops.safety.locks import ORPHANED, locked


def training_key(parameters: dict[str, Any], data_md5: str, made_by: dict[str, str]) -> str:
    """Return 16 hexadecimal digits that name a training: the start of sha256 over all that its bits depend on.

    `made_by` is code, torch and kind of device: a training is resumed only under the same.
    """
    named = json.dumps([parameters, data_md5, made_by], sort_keys=True)
    return hashlib.sha256(named.encode()).hexdigest()[:16]


class Workspace:
    """`.checkpoints/KEY/`, locked by one process at a time, as long as it runs.

    A checkpoint records size and sha256 of all that a resumed training needs besides: the history's first bytes, the
    sample grids, the snapshots. It is written after them and replaced by a rename, and the one before is kept. What no
    checkpoint records is not read.
    """

    def __init__(self, key: str, *, wait: float = ORPHANED) -> None:
        self._wait = wait
        self.folder = project_root() / ".checkpoints" / key
        self.checkpoint, self.previous = self.folder / CHECKPOINT, self.folder / PREVIOUS
        self.history = self.folder / HISTORY
        self.samples = self.folder / SAMPLES
        self.snapshots = self.folder / SNAPSHOTS
        self._forget()

    def _forget(self) -> None:
        self._restored: Path | None = None
        self._files: dict[str, tuple[int, str]] = {}
        self._rows, self._rows_digest = 0, hashlib.sha256()
        self._seconds, self._began = 0.0, time.monotonic()

    def __enter__(self) -> Self:
        work = "trains with the same parameters and data"
        self._lock = locked(self.folder, work, "training goes on from its last checkpoint", self._wait)
        self._lock.__enter__()
        self.samples.mkdir(parents=True, exist_ok=True)
        self.snapshots.mkdir(exist_ok=True)
        _sync(self.folder.parent)
        return self

    def __exit__(self, *_: object) -> None:
        self._lock.__exit__(None, None, None)

    def restore(self, state: TrainState) -> None:
        """Put the newest checkpoint into a fresh state that is sound, with all that it records; read only.

        A warning names those that are not. Without a sound one the state is left as it is.
        """
        reasons = []
        for path in (self.checkpoint, self.previous):
            if not os.path.lexists(path):
                continue
            try:
                restore_checkpoint(path, state, self._take)
                self._restored = path
                break
            except CheckpointError as error:
                self._forget()
                reasons.append(str(error))
        if reasons:
            goes_on = f"goes on from step {state.step}" if self._restored else "starts from the beginning"
            print(f"warning: {'; '.join(reasons)}; training {goes_on}", file=sys.stderr)

    def _take(self, record: dict[str, Any]) -> None:
        """Take over what a checkpoint records, after all files of it were verified."""
        self._seconds = record["seconds"]
        self._rows, digest = record["history"]
        if self._rows:
            self._rows_digest.update(_content(self.history, digest, self._rows))
        for name, (size, digest) in record["files"].items():
            _content(self.folder / name, digest, size, whole=True)
            self._files[name] = (size, digest)

    def settle(self) -> None:
        """Drop what the restored checkpoint does not need, once all ranks have read it: what is damaged, later rows."""
        if self._restored is None:
            self.previous.unlink(missing_ok=True)
            self.checkpoint.unlink(missing_ok=True)
        elif self._restored == self.previous:
            self.previous.replace(self.checkpoint)
        if self.history.exists():
            os.truncate(self.history, self._rows)

    def note(self, path: Path) -> None:
        """Record a file that was written here, which later checkpoints need."""
        content = path.read_bytes()
        self._files[path.relative_to(self.folder).as_posix()] = (len(content), hashlib.sha256(content).hexdigest())

    @contextmanager
    def open_history(self, columns: Sequence[str]) -> Iterator["csv.DictWriter[str]"]:
        """Open the history for more rows, which are in the file as soon as they are written; it may have some."""
        self._began = time.monotonic()
        with self.history.open("ab") as file:
            rows = csv.DictWriter(_Lines(self, file), columns, lineterminator="\n")
            if not self._rows:
                rows.writeheader()
            yield rows

    def write_line(self, file: IO[bytes], line: str) -> None:
        """Write a line of the history, and count and hash it."""
        content = line.encode()
        file.write(content)
        file.flush()
        self._rows += len(content)
        self._rows_digest.update(content)

    @property
    def seconds(self) -> float:
        """Seconds of training up to now, without those after the last checkpoint of a run that was killed."""
        return self._seconds + time.monotonic() - self._began

    def save(self, state: TrainState) -> None:
        """Write a checkpoint; whenever power fails, all that the last one on the disk records is there, too."""
        if self.history.exists():
            with self.history.open("rb") as file:
                os.fsync(file.fileno())
        record = {"history": (self._rows, self._rows_digest.hexdigest()), "files": self._files, "seconds": self.seconds}
        new = self.folder / NEXT
        save_checkpoint(new, state, record)
        if self.checkpoint.exists():
            self.checkpoint.replace(self.previous)
        new.replace(self.checkpoint)
        _sync(self.folder)

    def hand_over(self, folder: Path, target: Path) -> None:
        """Write the files below a folder that the last checkpoint needs into a new one."""
        target.mkdir(parents=True)
        for path in (self.folder / name for name in self._files):
            if path.parent == folder:
                hand_over(path, target / path.name)

    def note_made(self, *outputs: Path) -> None:
        """Note what was made of this training: once DVC has recorded it, the workspace is needless."""
        note_made(self.folder, outputs)


class _Lines:
    """What `csv` writes to."""

    def __init__(self, work: Workspace, file: IO[bytes]) -> None:
        self.write = lambda line: work.write_line(file, line)


def last_step(folder: Path) -> int | None:
    """Return the step of the newest sound checkpoint in a training's folder; None without any."""
    for name in (CHECKPOINT, PREVIOUS):
        try:
            step: int = checkpoint_metadata(folder / name)["step"]
            return step
        except CheckpointError:
            continue
    return None


def _content(path: Path, sha256: str, size: int, *, whole: bool = False) -> bytes:
    """Return the first bytes of a file, if `whole` all of it; if they are not those of the sum: CheckpointError."""
    if not path.is_file():
        raise CheckpointError(f"{path} is missing")
    try:
        with path.open("rb") as file:
            content = file.read(size + whole)
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read ({error.strerror})") from None
    if len(content) != size or hashlib.sha256(content).hexdigest() != sha256:
        raise CheckpointError(f"{path} is damaged: its bytes are not those that were written")
    return content


def _sync(folder: Path) -> None:
    """Bring the names in a folder to the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
