"""Keeps calls for a moment and sends them in batches from a thread of its own.

Whatever Foreshock does (nothing, too slowly, nonsense), the application is not held up and no error reaches it.
"""

from __future__ import annotations

import atexit
import logging
import os
import random
import threading
import weakref
from collections import deque
from collections.abc import Callable
from itertools import count
from queue import Empty, SimpleQueue
from time import monotonic, time_ns
from typing import NamedTuple

from foreshock.instrument.wire import Call, Endpoint, Later, Lost, encode

logger = logging.getLogger("foreshock.instrument")

LONGEST_NAMES = 1024
"""Most characters of a call's names; longer ones are cut, so that the buffer is bounded in bytes too."""

FIRST_PAUSE_SECONDS = 1.0
LONGEST_PAUSE_SECONDS = 10.0


class Stats(NamedTuple):
    """What became of the calls of this process; `recorded` = `sent` + `waiting` + all of `dropped`.

    `dropped` by reason: `overflow` (the buffer was full; the oldest went), `no_answer` (sent, and nobody knows whether
    it arrived), `refused` (Foreshock did not want it), `unusable` (what was recorded made no sense). `problem` is why
    nothing is delivered, "" while all is well. The numbers fit together once nothing moves.
    """

    recorded: int
    sent: int
    waiting: int
    dropped: dict[str, int]
    problem: str


class Recorder:
    """The calls of one service on their way to Foreshock.

    `capacity` calls are kept at most; while Foreshock is away the oldest go first. They are sent every `every_seconds`,
    and as soon as there are `batch` of them. `timeout_seconds` bounds each step of an exchange, `exit_seconds` the last
    attempt when the process ends. `token` is sent as a bearer token. Raises ValueError for what cannot be meant.

    A batch that may have arrived is not sent again: a call counts once, or, where an answer was lost, perhaps not at
    all. The thread starts with the first call; a forked process has a buffer and a thread of its own. `record` may be
    called from any thread, from a signal handler too.
    """

    def __init__(
        self,
        service: str,
        url: str = "http://127.0.0.1:8080/collect",
        *,
        token: str = "",
        capacity: int = 10_000,
        batch: int = 500,
        every_seconds: float = 1.0,
        timeout_seconds: float = 2.0,
        exit_seconds: float = 1.0,
    ) -> None:
        if not service or min(capacity, batch) < 1 or min(every_seconds, timeout_seconds) <= 0 or exit_seconds < 0:
            raise ValueError("a recorder wants the name of its service, and sizes and times above 0")
        self.service = service
        self._to = Endpoint(url, token, timeout_seconds)
        self._capacity, self._batch = capacity, min(batch, capacity)
        self._every, self._exit_seconds = every_seconds, exit_seconds
        # Our own, so that the application's random numbers are what they would be without us.
        self._random = random.Random()
        self._closing = False
        self._begin()
        atexit.register(self.close)
        if hasattr(os, "register_at_fork"):
            begin = weakref.WeakMethod(self._begin)
            os.register_at_fork(after_in_child=lambda: _call(begin))

    def _begin(self) -> None:
        """Start with nothing: at first, and in a forked process, whose parent sends what was recorded before."""
        self._calls: deque[Call] = deque(maxlen=self._capacity)
        self._append = self._calls.append
        self._number = count()
        # Its `put`, unlike that of any lock, may interrupt itself.
        self._wake: SimpleQueue[threading.Event | None] = SimpleQueue()
        self._starting = threading.Lock()
        self._thread: threading.Thread | None = None
        self._start_again = 0.0
        # From here on, what only the thread writes: the batch that is to be sent, and counts.
        self._body, self._pending = b"", 0
        self._taken = self._numbered = self._sent = self._failures = 0
        self._dropped: dict[str, int] = {}
        self._problem = ""

    def record(
        self, source: str, target: str, method: str, endpoint: str, status: int, duration_seconds: float
    ) -> None:
        """Note a call that has just ended; `status` 0 = it had no answer. Never waits, never raises."""
        try:
            if len(source) + len(target) + len(method) + len(endpoint) > LONGEST_NAMES:
                source, target, method, endpoint = _cut(source, target, method, endpoint)
            self._append((next(self._number), time_ns(), duration_seconds, source, target, method, endpoint, status))
            if self._thread is None:
                self._start()
            elif len(self._calls) == self._batch:
                self._wake.put(None)
        except Exception:  # noqa: BLE001 whatever it was, the application is not to learn of it
            self._append((next(self._number), 0, -1.0, "", "", "", "", 0))

    def flush(self, timeout_seconds: float = 5.0) -> bool:
        """Send what was recorded before now; whether all of it is settled, sent or dropped, within this time."""
        if self._thread is None or not self._thread.is_alive():
            return not self._waiting()
        done = threading.Event()
        self._wake.put(done)
        return done.wait(timeout_seconds) and not self._pending

    def close(self) -> None:
        """Send what there is, for `exit_seconds` at most, and end. What is recorded later is not sent."""
        atexit.unregister(self.close)
        self._closing = True
        self.flush(self._exit_seconds)

    def stats(self) -> Stats:
        """What became of the calls so far."""
        overflow = max(self._numbered - self._taken, 0) + self._dropped.get("overflow", 0)
        dropped = {k: n for k, n in sorted({**self._dropped, "overflow": overflow}.items()) if n}
        waiting = self._waiting()
        return Stats(self._sent + waiting + sum(dropped.values()), self._sent, waiting, dropped, self._problem)

    def __enter__(self) -> Recorder:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _waiting(self) -> int:
        return len(self._calls) + self._pending

    # -- the thread --------------------------------------------------------------------------------------------------

    def _start(self) -> None:
        if self._closing or monotonic() < self._start_again or not self._starting.acquire(blocking=False):
            return
        try:
            if self._thread is None:
                thread = threading.Thread(target=self._run, name="foreshock-recorder", daemon=True)
                thread.start()
                self._thread = thread
        except RuntimeError as error:  # the system has no more threads, or the interpreter ends
            self._start_again = monotonic() + FIRST_PAUSE_SECONDS
            self._problem = str(error)
        finally:
            self._starting.release()

    def _run(self) -> None:
        pause = self._every
        while True:
            asked = self._next(pause)
            pause = self._deliver()
            if asked is not None:
                asked.set()
                if self._closing:
                    return

    def _next(self, seconds: float) -> threading.Event | None:
        """Wait so long, or until there is a batch or somebody asks; who does is told when it is done."""
        until = monotonic() + seconds
        while (left := until - monotonic()) > 0:
            try:
                asked = self._wake.get(timeout=left)
            except Empty:
                break
            # A full batch is no reason to try again sooner what has just failed.
            if asked is not None or not self._failures:
                return asked
        return None

    def _deliver(self) -> float:
        """Send what waits now, and whole batches that come meanwhile; the seconds until the next time."""
        due = self._waiting()
        while due > 0 or len(self._calls) >= self._batch:
            if self._pending and len(self._calls) == self._capacity:
                due -= self._pending
                self._drop("overflow")  # what waits to be sent again is older than all that overflows
            try:
                due -= self._pending or self._take()
                if self._pending:
                    self._to.post(self._body)
                    self._succeed()
            except Later as error:
                return self._fail(error, error.seconds)
            except Lost as error:
                self._drop(error.reason)
                return self._fail(error)
            except Exception as error:
                # The edge of the thread: nothing above could handle it.
                logger.exception("calls could not be sent")
                self._drop("unusable")
                return self._fail(error)
        return self._every

    def _take(self) -> int:
        """Make a batch of the oldest calls; how many left the buffer."""
        taken: list[Call] = []
        try:
            while len(taken) < self._batch:
                taken.append(self._calls.popleft())
        except IndexError:
            pass
        # What has a number and never came out has overflowed.
        self._taken += len(taken)
        self._numbered = max([self._numbered, *(call[0] + 1 for call in taken)])
        self._pending = len(taken)
        self._body, usable = encode(taken)
        self._drop("unusable", len(taken) - usable)
        return len(taken)

    def _drop(self, reason: str, calls: int | None = None) -> None:
        """Give up so many calls of the batch, or all of it."""
        calls = self._pending if calls is None else calls
        self._dropped[reason] = self._dropped.get(reason, 0) + calls
        self._pending -= calls

    def _succeed(self) -> None:
        if self._failures:
            logger.info("calls are delivered to %s again", self._to.place)
        self._sent += self._pending
        self._pending = self._failures = 0
        self._problem = ""

    def _fail(self, error: Exception, least_seconds: float = 0.0) -> float:
        """Note a failure, say the first of several; the seconds to wait."""
        self._problem = str(error) or type(error).__name__
        if not self._failures:
            logger.warning("calls are not delivered: %s", self._problem)
        pause = min(FIRST_PAUSE_SECONDS * 2.0 ** min(self._failures, 10), LONGEST_PAUSE_SECONDS)
        self._failures += 1
        return max(pause * self._random.uniform(0.5, 1.0), min(least_seconds, LONGEST_PAUSE_SECONDS))


def _cut(*texts: str) -> tuple[str, ...]:
    return tuple(text[: LONGEST_NAMES // len(texts)] for text in texts)


def _call(method: weakref.WeakMethod[Callable[[], None]]) -> None:
    if (alive := method()) is not None:
        alive()
