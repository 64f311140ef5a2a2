"""The buffer on disk between what is read here and Kafka, which may be away.

A segment log of batches of messages and, beside it, the position up to which Kafka has acknowledged them. What `add`
returned for survives a kill; what Kafka acknowledged in the last moments before one is sent again.
"""

from __future__ import annotations

import logging
import os
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from time import monotonic
from typing import NamedTuple

import msgspec

from foreshock.agent.outgoing import OUTGOING, Outgoing, decode, encode
from foreshock.errors import PermanentError, RetryableError
from foreshock.runtime.disk import refusing
from foreshock.runtime.lock import lock_folder
from foreshock.runtime.log import DamagedLogError, SegmentLog
from foreshock.telemetry import AGENT_BUFFERED, DROPPED
from foreshock.types import Record

logger = logging.getLogger(__name__)

MAX_BYTES = 256 << 20
"""Size of the buffer where nobody says otherwise."""

_SEGMENTS = 8
_LEAST_SEGMENT_BYTES = 64 << 10
_WRITE_SECONDS = 0.2
"""Between two writings of the position: so much is sent twice after a kill."""
_ENTRY_BYTES = 96
"""About what the log adds to a batch."""


class Batch(NamedTuple):
    """A batch of the buffer: the position behind it, and its messages."""

    next_position: int
    messages: list[Outgoing]


class _Kept(NamedTuple):
    position: int
    messages: int
    bytes: int
    time_unix_nano: int


class Spool:
    """A bounded buffer of messages on disk, in order; one process at a time may have its folder.

    When it is full the oldest messages go, which is counted (`foreshock_dropped_total{reason="agent_buffer_full"}`):
    of an outage longer than the buffer is large, the end is kept. Where the disk refuses, what is new goes
    (`agent_disk`).
    """

    def __init__(self, folder: Path, max_bytes: int = MAX_BYTES) -> None:
        self.folder, self.max_bytes = Path(folder), max_bytes
        self._segment_bytes = max(_LEAST_SEGMENT_BYTES, max_bytes // _SEGMENTS)
        self._lock = threading.Lock()
        self._added = threading.Event()
        self._kept: deque[_Kept] = deque()
        self._written_at = -_WRITE_SECONDS
        self.waiting = 0
        """Messages that Kafka does not have yet."""
        self.newest_unix_nano = 0
        """The newest time of a message that was ever added, as far as that is known; 0 = not."""
        with ExitStack() as stack:
            stack.enter_context(lock_folder(self.folder))
            self.position = self._read_position()
            self._log = SegmentLog.open(
                self.folder / "log", self.position, segment_bytes=self._segment_bytes, max_bytes=self._segment_bytes
            )
            stack.callback(self._log.close)
            self._recover()
            self._stack = stack.pop_all()

    def add(self, messages: Sequence[Outgoing]) -> bool:
        """Keep messages until Kafka has them; False where the disk refuses them, which is counted."""
        if not messages:
            return True
        payload = encode(messages)
        with self._lock:
            try:
                position = self._log.append(Record("", "agent", OUTGOING, messages[-1].time_unix_nano, payload))
            except RetryableError as error:
                DROPPED.labels("agent_disk").inc(len(messages))
                logger.warning("the agent's buffer: %s", error)
                return False
            self._keep(_Kept(position, len(messages), len(payload) + _ENTRY_BYTES, messages[-1].time_unix_nano))
            if self._log.bytes > self.max_bytes:
                self._shed()
            AGENT_BUFFERED.set(self.waiting)
        self._added.set()
        return True

    def read(self, position: int) -> Iterator[Batch]:
        """Batches from a position on to the present end; what has been shed, or cannot be read, is left out."""
        for behind, record in self._records(position):
            yield Batch(behind, decode(record.payload))

    def _records(self, position: int) -> Iterator[tuple[int, Record]]:
        start = max(position, self._log.start)
        while True:
            try:
                for start, record in self._log.read(start):  # noqa: B020, where damage is met it goes on behind it
                    if record.content_type == OUTGOING:
                        yield start, record
                return
            except DamagedLogError as error:
                if error.problem.resume > self._log.start:  # else it was shed meanwhile, and counted then
                    DROPPED.labels("agent_buffer_damaged").inc(max(1, error.problem.resume - start))
                    logger.warning("the agent's buffer is damaged: %s", error.problem)
                start = max(error.problem.resume, self._log.start)
            except PermanentError:
                return  # shed between two looks: the next reading begins behind it

    def wait(self, seconds: float) -> None:
        """Return when something has been added since the last call, or after so long."""
        self._added.wait(seconds)
        self._added.clear()

    def done(self, position: int) -> None:
        """Kafka has everything below this position: it is forgotten here."""
        with self._lock:
            if position <= self.position:
                return
            self.position = position
            self._forget(position)
            AGENT_BUFFERED.set(self.waiting)
            now = monotonic()
            if now - self._written_at >= _WRITE_SECONDS or not self._kept:
                self._written_at = now
                self._write_position()
                self._trim(position)

    @property
    def end(self) -> int:
        """The position behind the last batch."""
        return self._log.end

    @property
    def bytes(self) -> int:
        """Size on disk."""
        return self._log.bytes

    def close(self) -> None:
        """Let go of the folder; what waits is there for the next time."""
        self._write_position()
        self._stack.close()

    # -- what happens under the lock -----------------------------------------------------------------------------

    def _recover(self) -> None:
        """Find out what waits since the last time."""
        self.position = max(self.position, self._log.start)
        for behind, record in self._records(self.position):
            size = len(record.payload) + _ENTRY_BYTES
            self._keep(_Kept(behind - 1, len(_COUNT(record.payload)), size, record.received_unix_nano))

    def _keep(self, one: _Kept) -> None:
        self._kept.append(one)
        self.waiting += one.messages
        self.newest_unix_nano = max(self.newest_unix_nano, one.time_unix_nano)

    def _forget(self, position: int) -> int:
        """Forget what lies below a position; how many messages that were."""
        count = 0
        while self._kept and self._kept[0].position < position:
            count += self._kept.popleft().messages
        self.waiting -= count
        return count

    def _shed(self) -> None:
        """Let the oldest go until the rest fits."""
        over, keep_from = self._log.bytes - self.max_bytes + self._segment_bytes, self._log.end
        for one in self._kept:
            if over <= 0:
                keep_from = one.position
                break
            over -= one.bytes
        self._trim(keep_from)
        if lost := self._forget(self._log.start):
            DROPPED.labels("agent_buffer_full").inc(lost)
            logger.warning("the agent's buffer is full: its %d oldest messages are lost", lost)
            self.position = max(self.position, self._log.start)

    def _trim(self, keep_from: int) -> None:
        try:
            self._log.trim(0, keep_from)
        except RetryableError as error:
            logger.warning("the agent's buffer: %s", error)

    # -- the position --------------------------------------------------------------------------------------------

    @property
    def _file(self) -> Path:
        return self.folder / "position"

    def _read_position(self) -> int:
        try:
            position, self.newest_unix_nano = map(int, self._file.read_text().split())
            return position
        except FileNotFoundError:
            return 0
        except ValueError:
            # A power loss: everything that is still there is sent again.
            return 0

    def _write_position(self) -> None:
        fresh = self._file.with_suffix(".new")
        try:
            with refusing(fresh):
                fresh.write_text(f"{self.position} {self.newest_unix_nano}")
                os.replace(fresh, self._file)
        except RetryableError as error:
            # Without it more is sent again after a restart, and nothing is lost.
            logger.warning("the agent's buffer: %s", error)


_COUNT = msgspec.msgpack.Decoder(list[msgspec.Raw]).decode
