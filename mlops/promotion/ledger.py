"""The ledger of decisions on who is champion: the truth that MLflow's aliases follow, versioned with the project.

`ledger.jsonl` has one decision a line, each with the sha256 of the line before it, so that no line can be changed,
lost or added between unnoticed.
"""

import errno
import fcntl
import getpass
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from datetime import UTC, datetime
from io import FileIO
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from mlops.project.errors import UserError, disk_errors
from mlops.project.identity import git, project_root
from mlops.promotion.history import Action, Entry, ModelId, replay

LEDGER = "ledger.jsonl"
LONGEST_REASON = 2_000
"""Characters; MLflow takes 5,000 in a version's description."""
"""In the project's root; it is for git, for no stage makes it anew."""
_ENTRY = TypeAdapter(Entry)


class Ledger:
    """The ledger while one process has it locked; see `locked_ledger`."""

    def __init__(self, path: Path, file: FileIO) -> None:
        self.path, self._file = path, file
        self.entries: list[Entry] = []
        self._digests: list[str] = []
        for line in self._whole_lines():
            self._take(line)

    def head(self, model: str) -> str | None:
        """Return the sha256 of the last line about a model."""
        lines = zip(self._digests, self.entries, strict=True)
        return next(iter(reversed([digest for digest, entry in lines if entry.model == model])), None)

    def knows(self, digest: str) -> bool:
        """Return whether a line has this sha256."""
        return digest in self._digests

    def append(
        self, action: Action, model: str, candidate: ModelId, reason: str, evidence: dict[str, Any] | None = None
    ) -> Entry:
        """Write a decision and return its entry; once this returns it is on the disk.

        The reason is one sentence; `evidence` has the numbers that the decision rests on, and is None if a person
        decided. A full disk is a UserError, and so is a reason that is longer than those who read it can take.
        """
        if len(reason) > LONGEST_REASON:
            raise UserError(f"a reason has at most {LONGEST_REASON:,} characters, got {len(reason):,}; shorten it")
        before = replay(self.entries, model).champion
        after = before if action == "refused" else candidate
        previous = self._digests[-1] if self._digests else None
        place = (len(self.entries) + 1, previous, datetime.now(UTC).isoformat(timespec="seconds"))
        entry = Entry(*place, action, model, candidate, before, after, reason, _author(), evidence)
        line = json.dumps(asdict(entry), allow_nan=False, ensure_ascii=False).encode()
        with disk_errors(self.path):
            if self._file.write(line + b"\n") <= len(line):
                raise OSError(errno.ENOSPC, "the line is not whole")  # the next run cuts it
            os.fsync(self._file.fileno())
        return self._take(line)

    def _whole_lines(self) -> list[bytes]:
        """Return the lines, after what a crash left of the last one is cut."""
        self._file.seek(0)
        *lines, tail = self._file.readall().split(b"\n")
        if not tail:
            return lines
        try:
            json.loads(tail)
        except ValueError:
            print(f"{self.path}: its last line was torn by a crash and is cut: nothing was decided by it")
            self._file.truncate(self._file.tell() - len(tail))
            return lines
        self._file.write(b"\n")
        return [*lines, tail]

    def _take(self, line: bytes) -> Entry:
        number, previous = len(self.entries) + 1, self._digests[-1] if self._digests else None
        try:
            entry = _ENTRY.validate_json(line, strict=True)
        except ValidationError as error:
            first = error.errors()[0]
            what = f"line {number} is no decision ({'.'.join(map(str, first['loc']))} {first['msg']})"
            raise UserError(f"{self.path}: {what}; restore it: git diff {LEDGER} shows what was changed") from None
        if (entry.number, entry.previous) != (number, previous):
            raise UserError(
                f"{self.path}: line {number} does not follow from the one before it: a line was changed or lost, or "
                f"two clones decided at once; keep the lines of one (git checkout --ours or --theirs {LEDGER}), and "
                "dvc repro register decides again what is missing"
            )
        self.entries.append(entry)
        self._digests.append(hashlib.sha256(line).hexdigest())
        return entry


@contextmanager
def locked_ledger() -> Iterator[Ledger]:
    """Lock the project's ledger, made if there was none: other processes wait until the block ends.

    A run in a workspace of its own decides in the copy of the ledger that git ignores, for it leaves the files of the
    project as they are; the next call in the project's folder takes these decisions over.

    A line that is damaged, or does not follow from the one before, is a UserError.
    """
    root = project_root()
    tracked, kept = root / LEDGER, root / ".checkpoints" / LEDGER
    kept.parent.mkdir(exist_ok=True)
    path = tracked if root == Path.cwd().resolve() else kept
    with kept.with_suffix(".lock").open("w") as lock, path.open("a+b", buffering=0) as file:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if path == tracked:
            _end_lines_as_written(file)
            _restore_lost(path, file, kept)
        else:
            _follow(file, tracked)
        ledger = Ledger(path, file)  # before the copy is written: a damaged file must not replace it
        try:
            yield ledger
        finally:
            if path == tracked:
                shutil.copyfile(path, kept.with_suffix(".new"))  # a full disk leaves the copy of before
                kept.with_suffix(".new").replace(kept)


def _follow(file: FileIO, tracked: Path) -> None:
    """Write the project's ledger in place of a copy that does not go on from it."""
    file.seek(0)
    lines = tracked.read_bytes().replace(b"\r\n", b"\n") if tracked.exists() else b""
    if not file.readall().startswith(lines):
        file.truncate(0)
        file.write(lines)
        os.fsync(file.fileno())


def _end_lines_as_written(file: FileIO) -> None:
    """Write the lines with the ends that they had, and that their sha256 are of, if git or an editor set others."""
    file.seek(0)
    there = file.readall()
    if b"\r\n" in there:
        file.truncate(0)
        file.write(there.replace(b"\r\n", b"\n"))
        os.fsync(file.fileno())


def _restore_lost(path: Path, file: FileIO, copy: Path) -> None:
    """Write again what an older state of the ledger lacks; `dvc exp apply` and git put such a one in its place."""
    file.seek(0)
    there, kept = file.readall(), copy.read_bytes() if copy.exists() else b""
    if len(kept) > len(there) and kept.startswith(there) and there.endswith(b"\n" if there else b""):
        file.write(kept[len(there) :])
        os.fsync(file.fileno())
        lost = kept.count(b"\n") - there.count(b"\n")
        print(f"{path}: an older state had taken its place; {lost} later decisions are restored from {copy}")


def _author() -> str:
    """Return who decides: the name in git's configuration, else that of the account."""
    with suppress(UserError):  # no git, or no name in it
        if name := git("config", "user.name").decode(errors="replace").strip():
            return name
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # an account without a name, as in a container
        return f"user {os.getuid()}"
