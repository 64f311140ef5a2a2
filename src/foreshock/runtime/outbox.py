"""From the store to the sinks: a thread a sink, at least once, in order, never in the pipeline's way."""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Sequence
from dataclasses import replace

from pydantic import Field

from foreshock import telemetry
from foreshock.adapters.sinks import Resumable, RetryLaterError
from foreshock.adapters.sql import Cursor, Dead, Store
from foreshock.errors import PermanentError, RetryableError
from foreshock.ports import Clock, Sink
from foreshock.types import Alert
from foreshock.types.units import Options, Seconds

logger = logging.getLogger(__name__)
_IDLE_SECONDS = 60.0
_NANO = 1_000_000_000


class OutboxOptions(Options):
    """How a sink that fails is tried again."""

    first_wait: Seconds = Field(
        default=1.0, gt=0, description="Wait after the first failure; doubled by each further one."
    )
    longest_wait: Seconds = Field(default=300.0, gt=0, description="The longest wait between two tries.")
    surprises: int = Field(
        default=5, ge=1, description="Tries after which an unexpected error of a sink counts as final."
    )


class Outbox:
    """Takes the alert stream to one sink.

    The cursor is registered when this object is made, which therefore comes before the first commit; a sink that is
    new to an existing store gets what comes from now on. `step` does one delivery and may be called without the
    thread; `start`, `wake` and `stop` run it in one.
    """

    def __init__(
        self, store: Store, sink: Sink | Resumable, clock: Clock, options: OutboxOptions | None = None, seed: int = 0
    ) -> None:
        self._store, self._sink, self._clock = store, sink, clock
        self._options = options or OutboxOptions()
        self._random = random.Random(f"{seed}:{sink.name}")
        self._batch = max(1, int(getattr(sink, "batch_size", 1)))
        self._alone_until = 0
        self._store_failures = 0
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._deadline = float("inf")
        self._thread: threading.Thread | None = None
        self._cursor = store.register(sink.name)
        if isinstance(sink, Resumable) and not self._cursor.state:
            self._cursor = replace(self._cursor, state=sink.begin())
            store.advance(sink.name, self._cursor)

    @property
    def cursor(self) -> Cursor:
        """How far the sink has got."""
        return self._cursor

    # One delivery

    def step(self) -> float | None:
        """Deliver the next alerts; seconds to wait before the next call, None = nothing is waiting.

        No error of the sink or of the store leaves it.
        """
        try:
            wait = self._step()
            self._store_failures = 0
        except (RetryableError, PermanentError) as error:
            telemetry.ERRORS.labels("outbox").inc()
            logger.warning("outbox %s: the store cannot be used: %s", self._sink.name, error)
            self._store_failures += 1
            return self._backoff(self._store_failures)
        return wait

    def _step(self) -> float | None:
        now = self._clock.now_unix_nano()
        if self._cursor.next_try_unix_nano > now:
            return (self._cursor.next_try_unix_nano - now) / _NANO
        size = 1 if self._cursor.seq < self._alone_until else self._batch
        events = self._store.events(self._cursor.seq, size)
        if not events:
            telemetry.OUTBOX.labels(self._sink.name).set(0)
            return None
        self._deliver(events)
        telemetry.OUTBOX.labels(self._sink.name).set(self._store.pending(self._sink.name))
        return max(0.0, (self._cursor.next_try_unix_nano - now) / _NANO)

    def _deliver(self, events: Sequence[tuple[int, Alert]]) -> None:
        alerts = [alert for _, alert in events]
        try:
            state = self._send(alerts)
        except RetryableError as error:
            self._defer(error)
        except PermanentError as error:
            self._give_up(events, str(error))
        except Exception as error:
            # A sink is somebody's code: what it raises by mistake must not end the thread, nor block it for ever.
            logger.exception("outbox %s: the sink failed in a way it should not", self._sink.name)
            if self._cursor.attempts + 1 < self._options.surprises:
                self._defer(error)
            else:
                self._give_up(events, f"{type(error).__name__}: {error}")
        else:
            self._move(Cursor(events[-1][0], state))
            telemetry.SINK_SENT.labels(self._sink.name).inc(len(alerts))

    def _send(self, alerts: Sequence[Alert]) -> str:
        if isinstance(self._sink, Resumable):
            return self._sink.send_from(self._cursor.state, alerts)
        self._sink.send(alerts)
        return ""

    def _defer(self, error: Exception) -> None:
        attempts = self._cursor.attempts + 1
        wait = self._backoff(attempts)
        if isinstance(error, RetryLaterError):
            wait = max(wait, error.seconds)
        telemetry.ERRORS.labels(f"sink:{self._sink.name}").inc()
        logger.warning("outbox %s: try %d failed, again in %.1f s: %s", self._sink.name, attempts, wait, error)
        due = self._clock.now_unix_nano() + int(wait * _NANO)
        self._move(replace(self._cursor, attempts=attempts, next_try_unix_nano=due))

    def _give_up(self, events: Sequence[tuple[int, Alert]], reason: str) -> None:
        if len(events) > 1:
            # One of them is refused: they go one by one, so that only that one is given up.
            self._alone_until = events[-1][0]
            return
        seq, alert = events[0]
        telemetry.ERRORS.labels(f"sink:{self._sink.name}").inc()
        logger.error("outbox %s: alert %s is given up: %s", self._sink.name, alert.episode, reason)
        dead = Dead(seq, alert.episode, alert.status, reason, self._clock.now_unix_nano())
        self._move(Cursor(seq, self._cursor.state), [dead])

    def _move(self, cursor: Cursor, dead: Sequence[Dead] = ()) -> None:
        self._store.advance(self._sink.name, cursor, dead)
        self._cursor = cursor

    def _backoff(self, attempts: int) -> float:
        # Half of the wait is drawn, so that senders that failed together do not come back together.
        wait = min(self._options.longest_wait, self._options.first_wait * 2.0 ** min(attempts - 1, 30))
        return wait * (0.5 + 0.5 * self._random.random())

    # The thread

    def start(self) -> None:
        """Deliver in a thread from now on."""
        self._thread = threading.Thread(target=self._run, name=f"outbox-{self._sink.name}", daemon=True)
        self._thread.start()

    def wake(self) -> None:
        """Say that a commit happened; returns at once."""
        self._wake.set()

    def stop(self, drain_seconds: float) -> bool:
        """End the thread after at most about `drain_seconds` spent on what is waiting; whether it has ended.

        A sink that fails while draining is not waited for: its alerts are delivered after the next start.
        """
        self._deadline = time.monotonic() + drain_seconds
        self._stopping.set()
        self._wake.set()
        if self._thread is not None:
            self._thread.join(drain_seconds + 1.0)
            if self._thread.is_alive():
                return False
        self._sink.close()
        return True

    def _run(self) -> None:
        while True:
            self._wake.clear()
            if self._stopping.is_set() and time.monotonic() >= self._deadline:
                return
            wait = self.step()
            if self._stopping.is_set() and wait != 0.0:
                return
            if wait != 0.0:
                self._wake.wait(_IDLE_SECONDS if wait is None else min(wait, _IDLE_SECONDS))
