"""The project's own store, in `.mlflow/`: where it is, and the absolute places in it, which follow the project."""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from urllib.parse import unquote

from mlops.project.errors import UserError
from mlops.project.identity import project_root

ARTIFACTS = "/.mlflow/artifacts"
"""Where artifacts are in a project: the end of the place of its experiment."""
FOLDERS = ("/.mlflow", "/mlruns")
"""Folders of a project in which MLflow writes; the second is that of its own experiment `Default`."""
BUSY = 8
"""Seconds in which another process may write."""


def home() -> Path:
    """Return the folder of the project's own store."""
    return project_root() / ".mlflow"


def artifacts() -> str:
    """Return the place of artifacts in the project's own store, as a URI."""
    return (home() / "artifacts").as_uri()


def own_uri() -> str:
    """Return the address of the project's own store.

    In an address a question mark ends the path, and % means another character, so a path that has one is given from the
    working directory.
    """
    database = str(home() / "mlflow.db")
    if set("?%") & set(database):
        database = os.path.relpath(database)
    if set("?%") & set(database):
        raise UserError(f"{home()}: MLflow cannot open a database in a folder with ? or %; run in {home().parent}")
    return f"sqlite:///{database}"


def check_home() -> None:
    """Make the folder of the store if it is missing; if that or its database cannot be written, it is a UserError."""
    try:
        home().mkdir(exist_ok=True)
    except OSError as error:
        raise UserError(
            f"{home()}, MLflow's store, cannot be made: {error.strerror}; make {home().parent} writable, or name "
            f"another store in MLFLOW_TRACKING_URI"
        ) from None
    for path in (home(), home() / "mlflow.db"):
        if path.exists() and not os.access(path, os.W_OK):
            raise UserError(f"{path} cannot be written by user {os.getuid()}; change its owner or permissions")


def follow_project(database: Path) -> None:
    """Write the project's present place into its store, if that has the one from which it was moved or copied.

    All is rewritten in one transaction, and nothing is read from or written to the old place. If nothing was moved,
    this is one query.
    """
    if not database.exists():
        return
    try:
        with closing(sqlite3.connect(database, timeout=BUSY, isolation_level=None)) as store:
            if _old_roots(store):
                store.execute("BEGIN IMMEDIATE")
                for root in _old_roots(store):  # again, for another process may have rewritten them
                    _rewrite(store, root)
                store.execute("COMMIT")
    except sqlite3.OperationalError as error:
        raise UserError(
            f"the project was moved or copied, and {database} cannot be told its new place ({error}); make it writable"
        ) from None


def _old_roots(store: sqlite3.Connection) -> set[str]:
    """Return the URIs of other folders that a database names as the project's."""
    if not store.execute("SELECT 1 FROM sqlite_master WHERE name = 'experiments'").fetchone():
        return set()  # a new database, the tables of which another process is making
    query = (
        "SELECT DISTINCT artifact_location FROM experiments WHERE artifact_location LIKE ? AND artifact_location <> ?"
    )
    places = store.execute(query, (f"file:///%{ARTIFACTS}", artifacts())).fetchall()
    return {place.removesuffix(ARTIFACTS) for (place,) in places}


def _rewrite(store: sqlite3.Connection, root: str) -> None:
    """Replace a folder by the project's, as URI and as path, wherever a value begins with what MLflow writes below."""
    pairs = [(root, project_root().as_uri()), (unquote(root.removeprefix("file://")), str(project_root()))]
    changes = [(old + folder, new + folder) for old, new in pairs for folder in FOLDERS]
    for table, column in _columns(store):
        for old, new in changes:
            store.execute(
                f'UPDATE "{table}" SET "{column}" = ? || substr("{column}", ?) '
                f'WHERE "{column}" = ? OR substr("{column}", 1, ?) = ?',
                (new, len(old) + 1, old, len(old) + 1, f"{old}/"),
            )


def _columns(store: sqlite3.Connection) -> Iterator[tuple[str, str]]:
    """Yield table and name of each column that holds text."""
    tables = store.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
    for (table,) in tables:
        for column in store.execute("SELECT name, type FROM pragma_table_info(?)", (table,)).fetchall():
            if any(kind in column[1].upper() for kind in ("CHAR", "TEXT", "CLOB")):
                yield table, column[0]
