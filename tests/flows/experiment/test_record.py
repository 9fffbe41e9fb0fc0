"""What stops a worker without a project of its own before anything is computed."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from flows.experiment.record import pull
from flows.experiment.workspace import REMOTE, Workspace
from flows.failure import StageFailedError


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    """Return a workspace in which DVC has nothing to pull."""
    (tmp_path / ".dvc").mkdir()
    (tmp_path / ".dvc" / "config").write_text("[core]\n    no_scm = true\n    analytics = false\n")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:1")
    return Workspace(tmp_path, tmp_path, tmp_path, "0" * 40)


@pytest.fixture
def refusing() -> Iterator[str]:
    """Yield the address of a server that wants other credentials."""

    class Refusal(BaseHTTPRequestHandler):
        def refuse(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self.send_response(401)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *arguments: object) -> None:
            """Print nothing."""

    for method in ("GET", "HEAD", "POST", "PUT"):
        setattr(Refusal, f"do_{method}", Refusal.refuse)
    with HTTPServer(("127.0.0.1", 0), Refusal) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/store"
        server.shutdown()


def test_a_remote_that_refuses_the_credentials_is_no_empty_one(
    workspace: Workspace, refusing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(REMOTE, refusing)
    with pytest.raises(StageFailedError) as error:
        pull(workspace)
    assert refusing in str(error.value)
    assert "401" in str(error.value)
    assert "credentials" in str(error.value)
    assert "\n" not in str(error.value)


def test_a_folder_that_is_not_there_is_not_made(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(REMOTE, str(tmp_path / "nowhere"))
    with pytest.raises(StageFailedError, match=f"nowhere is no folder on this machine; correct {REMOTE}"):
        pull(workspace)
    assert not (tmp_path / "nowhere").exists()


def test_a_folder_gets_the_probe_alone(workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    remote = tmp_path / "remote"
    remote.mkdir()
    monkeypatch.setenv(REMOTE, str(remote))
    pull(workspace)
    assert len([path for path in remote.rglob("*") if path.is_file()]) == 1
    assert [*(tmp_path / ".workspaces").iterdir()] == []


def test_a_run_whose_results_would_be_lost_is_refused(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(REMOTE, "/store")
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    with pytest.raises(StageFailedError, match="MLFLOW_TRACKING_URI"):
        pull(workspace)
