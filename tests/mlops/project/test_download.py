import hashlib
import os
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from mlops.project.download import download
from mlops.project.errors import UserError

CONTENT = os.urandom(600_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()
PART = f"file.bin.{SHA256[:16]}.part"


class Handler(BaseHTTPRequestHandler):
    """/good knows ranges, /whole does not, /bad sends other bytes, /short breaks off, /busy may pass; no others."""

    asked: list[tuple[str, str | None]] = []  # noqa: RUF012 - reset by the fixture

    def do_GET(self) -> None:
        place, wanted = self.path.split("/")[1], self.headers.get("Range")
        self.asked.append((place, wanted))
        content = CONTENT[::-1] if place == "bad" else CONTENT
        start = int(wanted.removeprefix("bytes=").removesuffix("-")) if wanted and place != "whole" else 0
        if place not in ("good", "whole", "bad", "short"):
            return self.send_error(503 if place == "busy" else 404)
        if start >= len(content):
            return self.send_error(416)
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        self.wfile.write(content[start : start + 200_000] if place == "short" else content[start:])
        return None

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr("mlops.project.download._PAUSES", (0.0, 0.0))
    Handler.asked = []
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def get(server: str, folder: Path, *places: str) -> bytes:
    urls = [f"{server}/{place}/file.bin" for place in places]
    download(urls, folder / "out" / "file.bin", sha256=SHA256, remedy="use data.path", partials=folder / "parts")
    return (folder / "out" / "file.bin").read_bytes()


def put_part(folder: Path, content: bytes) -> None:
    (folder / "parts").mkdir()
    (folder / "parts" / PART).write_bytes(content)


def test_the_file_arrives_and_no_part_is_left(server: str, tmp_path: Path) -> None:
    assert get(server, tmp_path, "good") == CONTENT
    assert list((tmp_path / "parts").iterdir()) == []
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["file.bin"]


def test_a_file_that_is_there_is_not_asked_for_again(server: str, tmp_path: Path) -> None:
    get(server, tmp_path, "good")
    assert get(server, tmp_path, "good") == CONTENT
    assert len(Handler.asked) == 1
    (tmp_path / "out" / "file.bin").write_bytes(b"other")
    assert get(server, tmp_path, "good") == CONTENT


def test_it_goes_on_where_it_stopped(server: str, tmp_path: Path) -> None:
    put_part(tmp_path, CONTENT[:250_001])
    assert get(server, tmp_path, "good") == CONTENT
    assert Handler.asked == [("good", "bytes=250001-")]


def test_a_mirror_that_breaks_off_is_continued_by_the_next(server: str, tmp_path: Path) -> None:
    assert get(server, tmp_path, "short", "good") == CONTENT
    assert Handler.asked == [("short", None), ("good", "bytes=200000-")]


def test_what_breaks_off_or_is_busy_is_tried_three_times(server: str, tmp_path: Path) -> None:
    assert get(server, tmp_path, "short") == CONTENT  # in three parts
    Handler.asked = []
    for place, times in {"busy": 3, "missing": 1, "bad": 1}.items():
        with pytest.raises(UserError):
            get(server, tmp_path / place, place)
        assert Handler.asked == [(place, None)] * times
        Handler.asked = []


def test_a_break_off_keeps_the_part_for_the_next_call(
    server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mlops.project.download._PAUSES", ())
    with pytest.raises(UserError, match="200,000 of 600,000 bytes"):
        get(server, tmp_path, "short")
    with pytest.raises(UserError, match="400,000 of 600,000 bytes"):
        get(server, tmp_path, "short")
    assert (tmp_path / "parts" / PART).read_bytes() == CONTENT[:400_000]
    assert get(server, tmp_path, "short") == CONTENT


def test_a_server_without_ranges_starts_anew(server: str, tmp_path: Path) -> None:
    put_part(tmp_path, CONTENT[:1000])
    assert get(server, tmp_path, "whole") == CONTENT


@pytest.mark.parametrize("part", [b"wrong", CONTENT[::-1], CONTENT + b"more"])
def test_a_bad_part_costs_a_new_start_and_nothing_else(server: str, tmp_path: Path, part: bytes) -> None:
    put_part(tmp_path, part)
    assert get(server, tmp_path, "good") == CONTENT
    assert Handler.asked == [("good", f"bytes={len(part)}-"), ("good", None)]


def test_a_complete_part_needs_no_server(tmp_path: Path) -> None:
    put_part(tmp_path, CONTENT)
    assert get("http://127.0.0.1:9", tmp_path, "nobody") == CONTENT


def test_wrong_bytes_are_deleted_and_the_next_mirror_is_tried(server: str, tmp_path: Path) -> None:
    assert get(server, tmp_path, "bad", "missing", "good") == CONTENT
    assert Handler.asked == [("bad", None), ("missing", None), ("good", None)]


def test_the_error_lists_every_mirror_with_its_reason_and_the_remedy(server: str, tmp_path: Path) -> None:
    urls = [f"{server}/bad/file.bin", f"{server}/missing/file.bin", "http://127.0.0.1:9/file.bin"]
    with pytest.raises(UserError) as caught:
        download(urls, tmp_path / "file.bin", sha256=SHA256, remedy="use data.path", partials=tmp_path / "parts")
    title, bad, missing, dead, remedy = str(caught.value).splitlines()
    assert title == "file.bin could not be downloaded:"
    other = hashlib.sha256(CONTENT[::-1]).hexdigest()
    assert bad.startswith(f"  {urls[0]}: wrong checksum")
    assert SHA256 in bad
    assert other in bad
    assert missing == f"  {urls[1]}: HTTP 404 Not Found"
    assert dead.startswith(f"  {urls[2]}: ")
    assert "refused" in dead
    assert remedy == "use data.path"
    assert not (tmp_path / "file.bin").exists()
    assert list((tmp_path / "parts").iterdir()) == []


def test_a_full_disk_is_no_failure_of_a_mirror(server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("mlops.project.download._copy", fail)
    with pytest.raises(UserError, match=r"\.part"):
        get(server, tmp_path, "good", "whole")
    assert len(Handler.asked) == 1


def test_parts_wait_in_the_project_by_default(server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    monkeypatch.setattr("mlops.project.download._PAUSES", ())
    with pytest.raises(UserError):
        download([f"{server}/short/file.bin"], tmp_path / "file.bin", sha256=SHA256, remedy="")
    assert (tmp_path / ".checkpoints" / "downloads" / PART).stat().st_size == 200_000
