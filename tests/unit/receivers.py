"""Servers on loopback that stand where Foreshock does, well-behaved or not."""

from __future__ import annotations

import gzip
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from foreshock.adapters.calls import decode_calls

Heard = tuple[str, str, str, str, int]
"""Source, target, method, endpoint, status."""


@dataclass
class Receiver:
    """Takes calls in; `answers` are the statuses of the next requests, then 202."""

    url: str = ""
    answers: list[int] = field(default_factory=list)
    headers: dict[str, str] = field(default_factory=dict)
    requests: list[tuple[str, dict[str, str], bytes]] = field(default_factory=list)
    came: threading.Condition = field(default_factory=threading.Condition)

    def take(self, path: str, headers: dict[str, str], body: bytes) -> int:
        with self.came:
            self.requests.append((path, headers, body))
            status = self.answers.pop(0) if self.answers else 202
            self.came.notify_all()
        return status

    def wait(self, count: int) -> None:
        """Until there have been so many requests."""
        with self.came:
            assert self.came.wait_for(lambda: len(self.requests) >= count, 10), f"{len(self.requests)} of {count}"

    def calls(self) -> list[Heard]:
        """All calls that came, in their order."""
        return [call for _, headers, body in self.requests for call in heard(headers, body)]


def heard(headers: dict[str, str], body: bytes) -> list[Heard]:
    """The calls of a request."""
    calls = decode_calls(gzip.decompress(body) if headers.get("Content-Encoding") == "gzip" else body, 1)
    assert calls.dropped == {}
    names = calls.names
    return [
        (names[source], names[target], names[method], names[endpoint], status)
        for _, _, source, target, method, endpoint, status in calls.rows.tolist()
    ]


@contextmanager
def receiver(answers: Sequence[int] = (), port: int = 0) -> Iterator[Receiver]:
    """A receiver that answers."""
    state = Receiver(answers=list(answers))

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            status = state.take(self.path, dict(self.headers), body)
            self.send_response(status)
            for name, value in state.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"{}")

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    state.url = f"http://127.0.0.1:{server.server_address[1]}/collect"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)


@contextmanager
def rude(answer: Callable[[socket.socket], None] | None) -> Iterator[str]:
    """A server that does to each connection what it is told, or nothing at all; its URL."""
    listener = socket.create_server(("127.0.0.1", 0))
    held: list[socket.socket] = []

    def serve() -> None:
        with suppress(OSError):
            while True:
                connection, _ = listener.accept()
                held.append(connection)
                if answer is not None:
                    with suppress(OSError):
                        answer(connection)
                        connection.close()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/collect"
    finally:
        with suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(10)
        for connection in held:
            connection.close()


def dead_port() -> int:
    """A port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
    return port
