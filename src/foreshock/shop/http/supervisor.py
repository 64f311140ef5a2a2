"""Keeps the processes of the shop running: forks them, brings back those that die, and takes all of them with it."""

from __future__ import annotations

import gc
import logging
import os
import select
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any, cast

from starlette.types import ASGIApp

from foreshock.errors import PermanentError
from foreshock.shop.http.process import Lifeline, Reports, serve

logger = logging.getLogger(__name__)

DELAY_SECONDS = 2.0
"""A process that died is back after so long."""
_LONGEST_DELAY_SECONDS = 30.0
_SHORT_LIFE_SECONDS = 5.0
"""One that dies younger than this, again and again, is brought back later each time."""
_START_SECONDS = 30.0
_END_SECONDS = 3.0
_LONGEST_WAIT_SECONDS = 0.5

_LATE = (
    "anyio._backends._asyncio", "encodings.idna", "httpcore", "sniffio", "uvicorn.lifespan.on",
    "uvicorn.protocols.http.httptools_impl", "uvloop",
)  # fmt: skip
"""What a service would import, or would try to, with its first request."""

Build = Callable[[Path, Reports], ASGIApp]
"""Makes the application of one process, in that process: its own folder, and the way to tell the supervisor."""


@dataclass(slots=True)
class _Child:
    """One process: `pid` 0 = it is down, until `due`; `down_seconds` is how long it asked to be."""

    name: str
    port: int
    build: Build
    pid: int = 0
    since: float = 0.0
    due: float = 0.0
    ready: bool = False
    down_seconds: float = 0.0
    short_lives: int = 0


class Supervisor:
    """Runs in one thread, and forks: its process must have no other threads.

    `parts` are the processes to run, by name: the port of each, and what makes its application. What they need is
    imported here, so that a process starts in milliseconds and shares most of its memory with the others. `say` is
    told, in a sentence, of each process that died or came back.
    """

    def __init__(self, parts: Mapping[str, tuple[int, Build]], say: Callable[[str], None]) -> None:
        self._children = {name: _Child(name, port, build) for name, (port, build) in parts.items()}
        self._say = say
        self._ending = False

    @property
    def pids(self) -> dict[str, int]:
        """The process of each part, 0 = it is down."""
        return {name: child.pid for name, child in self._children.items()}

    def run(self, started: Callable[[], None], seconds: float | None = None, lease: int | None = None) -> None:
        """Start all, call `started` when all of them answer, and watch over them until SIGINT or SIGTERM.

        Ends also after `seconds`, or when there is nothing more to come from the file descriptor `lease`. Raises
        PermanentError if a part does not answer within 30 s.
        """
        with ExitStack() as stack:
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="foreshock-shop-"))
            self._folder = Path(folder)
            self._lifeline, self._reports = Lifeline(), Reports()
            stack.callback(self._lifeline.close)
            stack.callback(self._reports.close)
            self._woken = stack.enter_context(self._signals())
            self._lease = lease
            stack.callback(self._end)
            _import_early()
            # What is there by now is never garbage; unlooked at, its pages stay shared.
            gc.collect()
            gc.freeze()
            self._start_all()
            if not self._ending:
                started()
            until = None if seconds is None else time.monotonic() + seconds
            while not self._ending and (until is None or time.monotonic() < until):
                self._turn(until)

    def _start_all(self) -> None:
        deadline = time.monotonic() + _START_SECONDS
        for child in self._children.values():
            self._start(child)
        while not self._ending and not all(child.ready for child in self._children.values()):
            self._turn(deadline)
            if time.monotonic() > deadline:
                late = ", ".join(child.name for child in self._children.values() if not child.ready)
                raise PermanentError(f"the shop did not start: no answer from {late} in {_START_SECONDS:g} s")

    def _turn(self, until: float | None) -> None:
        """Wait for something to happen, and do what follows from it."""
        self._wait(until)
        self._hear()
        for child in self._children.values():
            if self._ending:
                return
            if child.pid and (status := _ended(child.pid)) is not None:
                self._died(child, status)
            if not child.pid and child.due <= time.monotonic():
                self._start(child)

    def _wait(self, until: float | None) -> None:
        moments = [child.due for child in self._children.values() if not child.pid]
        if until is not None:
            moments.append(until)
        wait = min([_LONGEST_WAIT_SECONDS, *(moment - time.monotonic() for moment in moments)])
        watched = [self._woken.fileno(), self._reports.readable]
        if self._lease is not None:
            watched.append(self._lease)
        readable, _, _ = select.select(watched, [], [], max(wait, 0.0))
        with suppress(BlockingIOError):
            self._woken.recv(4096)
        if self._lease is not None and self._lease in readable and not os.read(self._lease, 4096):
            self._ending = True

    def _hear(self) -> None:
        for report in self._reports.heard():
            child = self._children[report.service]
            if report.down_seconds:
                child.down_seconds = report.down_seconds
            elif not child.ready:
                child.ready = True
                if child.due:
                    self._say(f"{child.name} is back, pid {child.pid}")

    def _died(self, child: _Child, status: int) -> None:
        now = time.monotonic()
        child.short_lives = child.short_lives + 1 if now - child.since < _SHORT_LIFE_SECONDS else 0
        delay = min(DELAY_SECONDS * 2 ** max(child.short_lives - 1, 0), _LONGEST_DELAY_SECONDS)
        if child.down_seconds:
            delay, child.down_seconds, child.short_lives = child.down_seconds, 0.0, 0
        code = os.waitstatus_to_exitcode(status)
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        self._say(f"{child.name} {how}; it is back in {delay:g} s")
        child.pid, child.ready, child.due = 0, False, now + delay

    def _start(self, child: _Child) -> None:
        child.since, child.ready = time.monotonic(), False
        child.pid = os.fork()
        if not child.pid:
            self._live(child)

    def _live(self, child: _Child) -> None:
        """What a child does: it does not return."""
        code = 1
        try:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            folder = self._folder / child.name
            folder.mkdir(exist_ok=True)
            self._lifeline.watch(folder)
            serve(child.name, child.build(folder, self._reports), child.port, self._reports)
            code = 0
        except Exception:
            logger.exception("the service %s cannot go on", child.name)
        finally:
            # Nothing that belongs to the parent is ended here: not its folder, not its other children.
            os._exit(code)

    @contextmanager
    def _signals(self) -> Iterator[socket.socket]:
        """A socket that can be read once a signal has come; SIGINT and SIGTERM end `run`."""
        woken, wakes = socket.socketpair()
        woken.setblocking(False)
        wakes.setblocking(False)

        def end(*_: Any) -> None:
            self._ending = True

        def look(*_: Any) -> None:
            pass

        handlers = {signal.SIGINT: end, signal.SIGTERM: end, signal.SIGCHLD: look}
        before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
        wakeup = signal.set_wakeup_fd(wakes.fileno(), warn_on_full_buffer=False)
        try:
            yield woken
        finally:
            signal.set_wakeup_fd(wakeup)
            for number, handler in before.items():
                signal.signal(number, handler)
            woken.close()
            wakes.close()

    def _end(self) -> None:
        """End all children: asked first, then made to."""
        self._kill(signal.SIGTERM)
        deadline = time.monotonic() + _END_SECONDS
        while self._living() and (left := deadline - time.monotonic()) > 0:
            with suppress(BlockingIOError):
                self._woken.recv(4096)
            if self._living():  # one that ended since is seen here, a later one wakes us
                select.select([self._woken], [], [], left)
        self._kill(signal.SIGKILL)
        for child in self._children.values():
            if child.pid:
                os.waitpid(child.pid, 0)
                child.pid = 0

    def _living(self) -> bool:
        for child in self._children.values():
            if child.pid and _ended(child.pid) is not None:
                child.pid = 0
        return any(child.pid for child in self._children.values())

    def _kill(self, number: signal.Signals) -> None:
        for child in self._children.values():
            if child.pid:
                os.kill(child.pid, number)


def _import_early() -> None:
    for name in _LATE:
        try:
            import_module(name)
        except ImportError:
            # httpcore looks for one such module with every request; to know that it is not there saves a quarter of
            # what the request costs.
            cast("dict[str, ModuleType | None]", sys.modules)[name] = None


def _ended(pid: int) -> int | None:
    """The status of a child that has ended; None = it runs."""
    found, status = os.waitpid(pid, os.WNOHANG)
    return status if found else None
