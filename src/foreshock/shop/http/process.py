"""What all processes of the shop have in common: a port, an end that is heard, and no life after their parent."""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import msgspec
import uvicorn
from prometheus_client import disable_created_metrics
from starlette.types import ASGIApp

HOST = "127.0.0.1"
_GRACE_SECONDS = 1
"""What is being answered when the end comes may take so long."""
_MOST_CONNECTIONS = 1000
_IDLE_SECONDS = 60
"""Longer than any caller of ours keeps a connection: it is never closed just as a request comes."""


def reserve(port: int) -> socket.socket:
    """A socket that has the port (0 = any free one) and does not listen.

    It keeps the port while the service that listens on it is dead; callers are then refused at once, as they are by a
    machine without such a service, and do not wait in a queue that nobody serves. Raises OSError if the port is in use.
    """
    holder = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    # Beside a socket with this option that does not listen, another one may be bound and listen.
    holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        holder.bind((HOST, port))
    except OSError:
        holder.close()
        raise
    return holder


class Lifeline:
    """A pipe of which the parent holds one end: when that closes, however the parent died, the child is to end."""

    def __init__(self) -> None:
        self._heard, self._held = os.pipe()

    def watch(self, folder: Path) -> None:
        """In the child: end this process, and remove its folder, as soon as the parent is gone."""
        os.close(self._held)
        threading.Thread(target=self._wait, args=(folder,), name="lifeline", daemon=True).start()

    def close(self) -> None:
        """In the parent."""
        os.close(self._heard)
        os.close(self._held)

    def _wait(self, folder: Path) -> None:
        os.read(self._heard, 1)
        shutil.rmtree(folder, ignore_errors=True)
        with suppress(OSError):  # the last one removes what held them all
            folder.parent.rmdir()
        os._exit(0)


class Report(msgspec.Struct, omit_defaults=True):
    """What a child tells its parent: that it answers, or that it will die now and wants to be down for so long."""

    service: str
    down_seconds: float = 0.0


class Reports:
    """One pipe from all children to their parent, a line a report."""

    def __init__(self) -> None:
        self.readable, self._writable = os.pipe()
        os.set_blocking(self.readable, False)
        self._rest = b""

    def tell(self, report: Report) -> None:
        """In a child; a line this short is written whole."""
        with suppress(OSError):
            os.write(self._writable, msgspec.json.encode(report) + b"\n")

    def heard(self) -> list[Report]:
        """In the parent: what was told since the last time."""
        with suppress(BlockingIOError):
            self._rest += os.read(self.readable, 1 << 16)
        *lines, self._rest = self._rest.split(b"\n")
        return [msgspec.json.decode(line, type=Report) for line in lines]

    def close(self) -> None:
        """In the parent."""
        os.close(self.readable)
        os.close(self._writable)


class _Server(uvicorn.Server):
    """Says when it answers; the signals are ours."""

    def __init__(self, config: uvicorn.Config, reports: Reports, name: str) -> None:
        super().__init__(config)
        self._reports, self._name = reports, name

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._reports.tell(Report(self._name))

    def leave(self) -> None:
        """End soon; who is cut off then is no news."""
        self.should_exit = True
        logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def serve(name: str, app: ASGIApp, port: int, reports: Reports) -> None:
    """Serve the app in this process, on loopback, until SIGTERM; ctrl-c is left to the parent."""
    name_process(f"shop-{name}")
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    disable_created_metrics()  # type: ignore[no-untyped-call]
    listener = reserve(port)
    config = uvicorn.Config(
        app,
        log_config=None,
        log_level="warning",
        access_log=False,
        lifespan="on",
        ws="none",
        server_header=False,
        proxy_headers=False,
        limit_concurrency=_MOST_CONNECTIONS,
        timeout_keep_alive=_IDLE_SECONDS,
        timeout_graceful_shutdown=_GRACE_SECONDS,
    )
    server = _Server(config, reports, name)

    async def run() -> None:
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, server.leave)
        await server.serve(sockets=[listener])

    with asyncio.Runner(loop_factory=_new_loop) as runner:
        runner.run(run())


def _new_loop() -> asyncio.AbstractEventLoop:
    try:
        import uvloop
    except ImportError:  # not on every platform
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()


def name_process(name: str) -> None:
    """Let `ps` and `top` tell the processes apart, where the system can."""
    with suppress(OSError):
        Path("/proc/self/comm").write_text(name[:15])
