"""Real servers for the applications of tests: uvicorn and wsgiref, on loopback."""

from __future__ import annotations

import io
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

import uvicorn

WAIT = 10.0


@contextmanager
def served(app: Any) -> Iterator[str]:
    """The URL of an ASGI application that uvicorn serves."""
    server = uvicorn.Server(uvicorn.Config(app, log_config=None, lifespan="auto", ws="none"))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        until = time.monotonic() + WAIT
        while not server.started:
            assert time.monotonic() < until
            time.sleep(0.002)
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join(WAIT)


@contextmanager
def wsgi_served(app: Any) -> Iterator[str]:
    """The URL of a WSGI application that wsgiref serves, without a word."""

    class Quiet(WSGIRequestHandler):
        def log_message(self, *args: Any) -> None:
            pass

        def get_stderr(self) -> Any:
            return io.StringIO()

    class Server(WSGIServer):
        def handle_error(self, request: Any, client_address: Any) -> None:
            pass

    server = make_server("127.0.0.1", 0, app, Server, Quiet)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join(WAIT)
