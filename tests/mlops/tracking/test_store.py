import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from mlops.project.errors import UserError
from mlops.tracking import store
from mlops.tracking.store import check_store
from tests.project import ROOT


@pytest.fixture
def own(root: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the database of a project's own store, which is not there yet."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    return root / ".mlflow" / "mlflow.db"


def made(path: Path, revision: str | None) -> None:
    """Make a database whose tables have a revision of MLflow's; None makes somebody else's."""
    path.parent.mkdir(exist_ok=True)
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("CREATE TABLE experiments (artifact_location VARCHAR)")
        if revision is not None:
            database.execute("CREATE TABLE alembic_version (version_num VARCHAR)")
            database.execute("INSERT INTO alembic_version VALUES (?)", (revision,))


@pytest.fixture
def server() -> Iterator[Callable[[int, str, bytes], str]]:
    """Return a function that starts a server with one answer to everything, and returns its address."""
    servers = []

    def start(status: int, kind: str, content: bytes) -> str:
        class Answer(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_: object) -> None:
                pass

        servers.append(ThreadingHTTPServer(("127.0.0.1", 0), Answer))
        Thread(target=servers[-1].serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        return f"http://127.0.0.1:{servers[-1].server_port}"

    yield start
    for running in servers:
        running.shutdown()
        running.server_close()


@pytest.mark.parametrize("variable", ["MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI"])
@pytest.mark.parametrize(
    "address",
    [
        *("mlruns", "file:///tmp/mlruns", "127.0.0.1:5000", "http:/127.0.0.1:5000", "sqlite://mlflow.db", "nosql://x"),
        *("http://127.0.0.1:9", "http://127.0.0.1:99999", "postgresql://me:secret@127.0.0.1:9/mlflow"),
    ],
)
def test_an_address_that_leads_to_no_store_is_refused_by_its_variable(
    own: Path, monkeypatch: pytest.MonkeyPatch, variable: str, address: str
) -> None:
    monkeypatch.setenv(variable, address)
    with pytest.raises(UserError) as raised:
        check_store()
    message = str(raised.value)
    assert message.startswith(f"{variable}={address.replace('secret', '***')} ")
    assert message.endswith(f"or unset {variable}")
    assert "\n" not in message


def test_an_empty_variable_is_one_that_is_not_set(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI"):
        monkeypatch.setenv(variable, "")
    check_store()
    assert store.tracking_uri() == f"sqlite:///{own}"
    assert list(own.parent.iterdir()) == []


@pytest.mark.parametrize(
    ("status", "kind", "content", "refused"),
    [
        (200, "application/json", b'{"experiment": {"experiment_id": "1"}}', None),
        (404, "application/json", b'{"error_code": "RESOURCE_DOES_NOT_EXIST"}', None),
        (200, "text/html", b"<html>Welcome</html>", "status 200, text/html"),
        (404, "text/html", b"<html>nothing here</html>", "status 404, text/html"),
        (200, "application/json", b"[]", "status 200, application/json"),
        (502, "application/json", b'{"error_code": "BAD_GATEWAY"}', "status 502"),
        (401, "text/plain", b"You are not authenticated.", "MLFLOW_TRACKING_USERNAME"),
        (403, "text/plain", b"Invalid Host header", "Invalid Host header"),
    ],
)
def test_a_server_has_to_answer_as_mlflow_does(
    own: Path,
    monkeypatch: pytest.MonkeyPatch,
    server: Callable[[int, str, bytes], str],
    status: int,
    kind: str,
    content: bytes,
    refused: str | None,
) -> None:
    monkeypatch.setenv("HOME", str(own.parent))  # it may hold credentials
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server(status, kind, content))
    if refused is None:
        check_store()
    else:
        with pytest.raises(UserError, match=refused):
            check_store()


def test_a_server_that_keeps_silent_is_not_waited_for(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert 2 * store.ANSWER_WITHIN < 10
    monkeypatch.setattr(store, "ANSWER_WITHIN", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{silent.getsockname()[1]}")
        with pytest.raises(UserError, match=r"Read timed out\. \(read timeout=0\.2\)"):
            check_store()


def test_a_store_of_another_version_is_refused_with_both_revisions(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    known, head = store._revisions()
    monkeypatch.setattr(store, "SETTLED_AFTER", -1.0)
    older = min(known - {head})
    for revision, remedy in ((older, f"mlflow db upgrade 'sqlite:///{own}'"), ("fff", "newer"), (None, "move it")):
        made(own, revision)
        with pytest.raises(UserError, match=remedy) as raised:
            check_store()
        message = str(raised.value)
        assert str(own) in message
        assert revision is None or {revision, head} <= {word.strip(",;)") for word in message.split()}
        assert "MLFLOW_TRACKING_URI" not in message
        own.unlink()
    own.write_text("a diary")
    with pytest.raises(UserError, match="is no database"):
        check_store()


def test_tables_that_another_process_is_making_are_waited_for(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made(own, None)
    monkeypatch.setattr(store, "SETTLED_AFTER", 600.0)
    _, head = store._revisions()
    seen = iter(["", "451aebb31d03", head])
    monkeypatch.setattr(store, "_revision", lambda _: next(seen))
    check_store()
    assert next(seen, None) is None


def test_mlflow_makes_the_revision_that_the_check_expects(root: Path, tracking_uri: str) -> None:
    from mlops.tracking.runs import connect

    connect()
    assert store._revision(Path(tracking_uri.removeprefix("sqlite:///"))) == store._revisions()[1]


def test_a_store_that_cannot_be_written_is_refused(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made(own, store._revisions()[1])
    monkeypatch.setattr("os.access", lambda path, _: path != own)  # root may write everything
    with pytest.raises(UserError, match=str(own)):
        check_store()
    own.unlink()
    own.parent.rmdir()
    own.parent.write_text("a file in its place")
    with pytest.raises(UserError, match=str(own.parent)):
        check_store()


def test_the_check_costs_no_mlflow_and_loopback_has_no_proxy(root: Path) -> None:
    shown = (
        "'mlflow' in sys.modules, 'MLFLOW_REGISTRY_URI' in os.environ, os.environ['no_proxy'], os.environ['NO_PROXY']"
    )
    code = f"import os, sys; from mlops.tracking.store import check_store; check_store(); print({shown})"
    proxies = {"NO_PROXY": "example.org, localhost", "MLFLOW_REGISTRY_URI": "", "PYTHONPATH": str(ROOT)}
    ended = subprocess.run(
        [sys.executable, "-c", code], env={"PATH": "", **proxies}, cwd=root, capture_output=True, text=True, check=True
    )
    hosts = "example.org,localhost,127.0.0.1,::1"
    assert ended.stdout.split() == ["False", "False", hosts, hosts]


def test_nothing_to_refuse_costs_milliseconds(own: Path) -> None:
    made(own, store._revisions()[1])
    costs = []
    for _ in range(10):
        start = time.thread_time()
        check_store()
        costs.append(time.thread_time() - start)
    assert min(costs) < 0.05
