"""A proxy in front of a server that answers in the ways in which servers fail."""

import random
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx

MOODS = ("well", "503", "500", "403", "no JSON", "reset", "silence", "late")
SILENCE, LATE = 30.0, 4.0
"""Seconds until a connection is closed without an answer, and until the answer to what was done at once comes."""
DROPPED = {"connection", "transfer-encoding", "content-length", "content-encoding"}
"""Headers that are of one connection, or of a body as it was packed."""


class Proxy(ThreadingHTTPServer):
    """Passes requests on, or not, as its mood is."""

    daemon_threads = True
    request_queue_size = 100

    def __init__(self, server: str, seed: int, bad: Callable[[], bool], late: float) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.server, self.bad, self.rng, self.late = server, bad, random.Random(seed), late
        self.address = f"http://127.0.0.1:{self.server_port}"
        self.seen: Counter[str] = Counter()
        """Requests by the mood that they met, while moods changed."""
        self.closed = threading.Event()
        self.down = threading.Event()
        """As long as it is set, and moods may be bad, nothing is answered."""

    def mood(self) -> str:
        """Return the mood of a request; always well unless it may be bad now."""
        if not self.bad():
            return "well"
        mood = "down" if self.down.is_set() else self.rng.choice(MOODS)
        self.seen[mood] += 1
        return mood

    def handle_error(self, request: object, client_address: object) -> None:
        """Print nothing: clients that lose patience close connections."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Proxy

    def _any(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        mood = self.server.mood()
        if mood == "silence":
            self.server.closed.wait(SILENCE)
            self.close_connection = True
        elif mood in ("reset", "down"):
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()
            self.close_connection = True
        elif mood in ("503", "500", "403"):
            self._answer(
                int(mood), b'{"error_code": "INTERNAL_ERROR", "message": "a bad hour"}', {"Retry-After": "3600"}
            )
        elif mood == "no JSON":
            self._answer(200, b"<html>down for maintenance</html>", {"Content-Type": "text/html"})
        else:
            self._pass_on(body, self.server.late if mood == "late" else 0.0)

    def _pass_on(self, body: bytes, late: float) -> None:
        headers = {name: value for name, value in self.headers.items() if name.lower() not in {*DROPPED, "host"}}
        answer = httpx.request(self.command, self.server.server + self.path, content=body, headers=headers, timeout=60)
        kept = {name: value for name, value in answer.headers.items() if name.lower() not in DROPPED}
        time.sleep(late)
        self._answer(answer.status_code, answer.content, kept)

    def _answer(self, status: int, content: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in (headers | {"Content-Length": str(len(content))}).items():
            self.send_header(name, value)
        self.end_headers()
        with suppress(OSError):
            self.wfile.write(content)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _any  # noqa: N815  # of the standard library

    def log_message(self, format: str, *arguments: object) -> None:
        """Print nothing."""


@contextmanager
def chaos(server: str, seed: int, bad: Callable[[], bool], late: float = LATE) -> Iterator[Proxy]:
    """Run a proxy in front of a server while the block lasts; it is in bad moods as long as `bad` holds."""
    with Proxy(server, seed, bad, late) as proxy:
        threading.Thread(target=proxy.serve_forever, args=(0.05,), daemon=True).start()
        try:
            yield proxy
        finally:
            proxy.closed.set()
            proxy.shutdown()
