"""The bounded queue between those who bring records and the pipeline thread."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from foreshock.config import Limits
from foreshock.errors import RetryableError
from foreshock.telemetry import QUEUE_RECORDS
from foreshock.types import Decoded, Record


@dataclass(frozen=True, slots=True)
class Queued:
    """A record that is in the log, the position after it, its samples where they are decoded, and when it came."""

    next_position: int
    record: Record
    samples: Decoded | None
    accepted: float


class Inbox:
    """Records accepted and not yet judged, bounded in number and bytes.

    Policy: a full queue refuses the sender (RetryableError, HTTP 429 or 503), who keeps what he has. Space counts from
    `reserve` on, or from `put`, until `done`.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._queue: queue.SimpleQueue[Queued | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self.records = 0
        self.bytes = 0

    @contextmanager
    def reserve(self, size: int, why: str | None = None) -> Iterator[None]:
        """Hold space for one record of `size` bytes; RetryableError if there is none, with `why` if that is known.

        A record that is larger than the whole queue is taken when nothing else is there: it could never come in.
        """
        with self._lock:
            fits = self.bytes + size <= self._limits.queue_bytes or not self.records
            if self.records >= self._limits.queue_records or not fits:
                reason = why or "telemetry comes in faster than it is judged"
                raise RetryableError(f"the queue is full: {reason}; send it again later")
            self._count(1, size)
        try:
            yield
        finally:
            with self._lock:
                self._count(-1, -size)

    def put(self, item: Queued) -> None:
        """Hand a record on; never waits and never fails."""
        with self._lock:
            self._count(1, len(item.record.payload))
        self._queue.put(item)

    def close(self) -> None:
        """Say that no more is to be judged behind what is in."""
        self._queue.put(None)

    def get(self, seconds: float) -> Queued | None:
        """The next record, None at the end of what was in at `close`; raises queue.Empty after `seconds`."""
        return self._queue.get(timeout=seconds)

    def done(self, item: Queued) -> None:
        """Say that a record has been judged."""
        with self._lock:
            self._count(-1, -len(item.record.payload))

    def empty(self) -> bool:
        """Whether nothing waits."""
        return self._queue.empty()

    def _count(self, records: int, size: int) -> None:
        self.records += records
        self.bytes += size
        QUEUE_RECORDS.set(self.records)
