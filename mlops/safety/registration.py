"""Whether MLflow and the ledger have what the note of `register` says; if not, DVC is to run the stage again."""

import hashlib
import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

from mlops.project.identity import project_root
from mlops.tracking.store import sqlite_file, tracking_uri

LEDGER = "ledger.jsonl"
"""As in `mlops.promotion.ledger`, which takes longer to import than the stage `code` may take."""

NEEDED = """
SELECT 1 FROM model_versions AS version JOIN runs AS run ON run.run_uuid = version.run_id
WHERE version.name = ? AND version.version = ? AND run.run_uuid = ? AND run.lifecycle_stage = 'active'
AND run.status = 'FINISHED'
"""
HEAD = "SELECT value FROM registered_model_tags WHERE name = ? AND key = 'ledger.head'"
CHAMPION = """
SELECT tag.value FROM registered_model_aliases AS alias
JOIN model_version_tags AS tag ON tag.name = alias.name AND tag.version = alias.version
WHERE alias.name = ? AND alias.alias = 'champion' AND tag.key = 'generator.sha256'
"""


def drop_if_lost(note: Path) -> None:
    """Delete the note of a registration that MLflow lacks, or whose champion is not the ledger's.

    Then `register`, whose output it is, is no longer up to date. Only a database of SQLite is asked: it answers within
    milliseconds and without MLflow, which takes seconds to import.
    """
    database = sqlite_file(tracking_uri())
    if note.exists() and database is not None and not _is_kept(note, database):
        note.unlink()


def _is_kept(note: Path, database: Path) -> bool:
    """Return whether run and version are there, the last decision arrived, and the alias is at the champion."""
    if not database.exists():
        return False
    try:
        place: dict[str, Any] = json.loads(note.read_text(encoding="utf-8"))
        head, champion = _decided(place["model"])
        with closing(sqlite3.connect(f"{database.absolute().as_uri()}?mode=ro", uri=True)) as store:
            version = (place["model"], int(place["version"]), place["run_id"])
            return (
                store.execute(NEEDED, version).fetchone() is not None
                and store.execute(HEAD, version[:1]).fetchone() == (head,)
                and store.execute(CHAMPION, version[:1]).fetchone() == champion
            )
    except (sqlite3.Error, OSError, KeyError, ValueError, TypeError):
        return False  # `register` finds the reason


def _decided(model: str) -> tuple[str, tuple[str] | None]:
    """Return the sha256 of the ledger's last line about a model, and the weights of its champion as a row."""
    for line in reversed((project_root() / LEDGER).read_bytes().replace(b"\r\n", b"\n").split(b"\n")):
        if line and (entry := json.loads(line))["model"] == model:
            champion = entry["champion_after"]
            return hashlib.sha256(line).hexdigest(), (champion["weights"],) if champion else None
    raise ValueError(f"nothing was decided on {model}")
