"""The store behind MLflow: where it is, and what can be checked of it before any work; imports no MLflow."""

import os
import re
import socket
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from mlops.project.errors import UserError, disk_errors
from mlops.tracking.own_store import check_home, follow_project, home, own_uri

if TYPE_CHECKING:
    from requests import Response

EXPERIMENT = "gan-training"
TRACKING, REGISTRY = "MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI"
ADDRESS = r"(https?://|sqlite:///|(postgresql|mysql|mssql)(\+\w+)?://|databricks|uc:).*"
PORTS = {"postgresql": 5432, "mysql": 3306, "mssql": 1433}
ANSWER_WITHIN = 4.0
"""Seconds in which a server takes a connection, and then in which it answers."""
SETTLED_AFTER = 5.0
"""Seconds without a change after which no process is still making the tables of a new database."""


def tracking_uri() -> str:
    """Return the address of the store: MLFLOW_TRACKING_URI or, if that is not set or empty, the project's own."""
    return os.environ.get(TRACKING) or own_uri()


def check_store() -> None:
    """Raise a UserError if the store, or the registry if MLFLOW_REGISTRY_URI names another, cannot be used.

    It costs milliseconds for a database and one request for a server, and at most 10 seconds. The project's own store
    is made to name the project's present place, if that was moved, renamed or copied.
    """
    uri = tracking_uri()
    for address, variable in {os.environ.get(REGISTRY) or uri: REGISTRY, uri: TRACKING}.items():
        title, remedy = title_of(address, variable), f"correct the address, or unset {variable}"
        if is_own(address):
            remedy = "or move it elsewhere, and `dvc repro register` writes a new one"
        if not re.fullmatch(ADDRESS, address):
            raise UserError(
                f"{title} is no address that MLflow {version('mlflow')} can use; name a server (http://HOST:PORT) or a "
                f"database (sqlite:////PATH/mlflow.db), {remedy}"
            )
        if is_own(address):
            check_home()
        if address.startswith("http"):
            _check_server(address, title, remedy)
        elif path := sqlite_file(address):
            _check_database(path, title, remedy)
        elif "://" in address and not address.startswith("sqlite"):
            _check_database_server(address, title, remedy)
    if is_own(uri):
        follow_project(home() / "mlflow.db")


@contextmanager
def store_errors() -> Iterator[None]:
    """Turn the error of a full disk into a UserError, which names the store's database if that could not be written."""
    with disk_errors(Path.cwd(), sqlite_file(tracking_uri())):
        yield


def is_own(address: str) -> bool:
    """Return whether an address is that of the project's own store, however it is written."""
    path = sqlite_file(address)
    return path is not None and path.resolve() == home() / "mlflow.db"


def title_of(address: str, variable: str = TRACKING) -> str:
    """Return what an error calls a store: its file, or the variable that names it, without a password."""
    shown = re.sub(r"(//[^:@/]*):[^@/]*@", r"\1:***@", address)
    return f"MLflow's store {home() / 'mlflow.db'}" if is_own(address) else f"{variable}={shown}"


def _check_server(uri: str, title: str, remedy: str) -> None:
    import requests  # only here: it takes as long as all other checks, and is what MLflow itself calls servers with

    name, password, token = (os.environ.get(f"MLFLOW_TRACKING_{part}") for part in ("USERNAME", "PASSWORD", "TOKEN"))
    insecure = os.environ.get("MLFLOW_TRACKING_INSECURE_TLS", "").lower() in ("1", "true")
    try:
        answer = requests.get(
            f"{uri.rstrip('/')}/api/2.0/mlflow/experiments/get-by-name",
            params={"experiment_name": EXPERIMENT},
            timeout=ANSWER_WITHIN,
            auth=(name, password) if name and password else None,
            headers={"Authorization": f"Bearer {token}"} if token and not name else None,
            verify=os.environ.get("MLFLOW_TRACKING_SERVER_CERT_PATH") or not insecure,
            cert=os.environ.get("MLFLOW_TRACKING_CLIENT_CERT_PATH"),
        )
    except (requests.RequestException, UnicodeError) as error:
        raise UserError(f"{title} does not answer ({_reason(error)}); start the server, {remedy}") from None
    if answer.status_code in (401, 403):
        if _other_credentials():
            return
        raise UserError(
            f"{title} refuses the request (status {answer.status_code}: {answer.text.strip()[:200]!r}); set "
            f"MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN, {remedy}"
        )
    if not _is_mlflow(answer):
        kind = answer.headers.get("content-type", "no type").partition(";")[0]
        raise UserError(f"{title} does not answer as MLflow does (status {answer.status_code}, {kind}); {remedy}")


def _reason(error: Exception) -> str:
    """Return what is at the bottom of an error of `requests`."""
    first = error.args[0] if error.args else error
    return str(getattr(first, "reason", first))


def _other_credentials() -> bool:
    """Return whether MLflow may have credentials that this check does not read."""
    named = any(os.environ.get(f"MLFLOW_TRACKING_{part}") for part in ("AUTH", "AWS_SIGV4"))
    return named or (Path.home() / ".mlflow" / "credentials").exists()


def _is_mlflow(answer: "Response") -> bool:
    try:
        content = answer.json()
    except ValueError:
        return False
    keys = content.keys() if isinstance(content, dict) else set()
    return answer.status_code in (200, 404) and bool({"experiment", "error_code"} & keys)


def _check_database_server(address: str, title: str, remedy: str) -> None:
    """Raise a UserError if the driver of a database is not installed, or nothing listens at its port."""
    import sqlalchemy  # only here: it takes longer than all other checks

    try:
        url = sqlalchemy.make_url(address)
        url.get_dialect().import_dbapi()
        if url.host:
            socket.create_connection((url.host, url.port or PORTS[url.get_backend_name()]), ANSWER_WITHIN).close()
    except (ImportError, sqlalchemy.exc.ArgumentError, OSError) as error:
        raise UserError(f"{title} cannot be used ({error}); start it, install its driver, {remedy}") from None


def sqlite_file(uri: str) -> Path | None:
    """Return the file of an address of SQLite; None for one in memory or another kind of database."""
    path = uri.removeprefix("sqlite:///").partition("?")[0]
    return None if path in ("", ":memory:", uri) or path.startswith("file:") else Path(path)


def _check_database(path: Path, title: str, remedy: str) -> None:
    """Raise a UserError if a file is no database of MLflow's, or of another version than the one that is installed."""
    known, head = _revisions()
    while path.exists() and path.stat().st_size:
        try:
            revision = _revision(path)
        except sqlite3.OperationalError as error:
            raise UserError(f"{title} cannot be opened: {error}; check its permissions, {remedy}") from None
        except sqlite3.DatabaseError as error:
            raise UserError(f"{title} is no database ({error}); {remedy}") from None
        if revision == head:
            return
        if time.time() - path.stat().st_mtime > SETTLED_AFTER:  # else another process may be making the tables
            _refuse_revision(path, revision, known, head, title, remedy)
        time.sleep(0.2)


def _refuse_revision(path: Path, revision: str, known: set[str], head: str, title: str, remedy: str) -> None:
    versions = f"has revision {revision}; MLflow {version('mlflow')}, which is installed, has {head}"
    if not revision:
        raise UserError(f"{title} is a database, but not one of MLflow's; {remedy}")
    if revision in known:
        raise UserError(
            f"{title} was written by an older MLflow ({versions}); copy it, then bring it up to date with "
            f"`mlflow db upgrade 'sqlite:///{path}'`, {remedy}"
        )
    raise UserError(f"{title} was written by a newer MLflow ({versions}); install that one, {remedy}")


def _revision(path: Path) -> str:
    """Return the revision of the tables of a database; it is empty for a database of somebody else's."""
    with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=rw", uri=True, timeout=ANSWER_WITHIN)) as database:
        if not database.execute("SELECT 1 FROM sqlite_master WHERE name = 'alembic_version'").fetchone():
            return ""
        (revision,) = database.execute("SELECT version_num FROM alembic_version").fetchone() or ("",)
        return str(revision)


def _revisions() -> tuple[set[str], str]:
    """Return all revisions of tables that the installed MLflow knows, and the one that it needs."""
    spec = find_spec("mlflow")
    assert spec is not None
    assert spec.origin is not None
    known, before = set[str](), set[str]()
    for path in (Path(spec.origin).parent / "store" / "db_migrations" / "versions").glob("*.py"):
        text = path.read_text(encoding="utf-8")
        known.update(re.findall(r'^revision = "(\w+)"', text, re.MULTILINE))
        before.update(re.findall(r'^down_revision = "(\w+)"', text, re.MULTILINE))
    (head,) = known - before
    return known, head
