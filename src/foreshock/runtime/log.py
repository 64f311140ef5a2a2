"""The embedded log: a folder of append-only segments (CONTRACTS §1).

Positions are record numbers from 0 and are never used twice. The bytes are in docs/reference/log-format.md.
"""

from __future__ import annotations

import logging
import os
import re
import threading
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Literal, Self, TypedDict, Unpack
from zlib import crc32

import msgspec

from foreshock.errors import PermanentError, RetryableError
from foreshock.runtime.disk import refusal, refusing, sync_folder, write_at
from foreshock.runtime.scan import DamagedLogError, Gap, LogSummary, Spans, header_problem, problems, records, summary
from foreshock.runtime.segment import (
    HEADER_BYTES,
    Problem,
    Segment,
    decode_body,
    encode_body,
    encode_entry,
    header_bytes,
    is_blank,
    read_header,
)
from foreshock.telemetry import ERRORS
from foreshock.types import Record
from foreshock.types.record import GAP

__all__ = ["DamagedLogError", "LogSummary", "Problem", "SegmentLog", "inspect_log", "verify_log"]

logger = logging.getLogger(__name__)

SEGMENT_BYTES = 64 << 20
Durability = Literal["process", "disk"]
Chunk = tuple[int, bytes]
"""Byte offset and bytes of a write."""
_NAME = re.compile(r"\d{20}\.log")


class Settings(TypedDict, total=False):
    """Settings of a log, as `SegmentLog` takes them."""

    segment_bytes: int
    max_bytes: int | None
    max_age_seconds: float | None
    durability: Durability
    read_only: bool


class SegmentLog:
    """A log in a folder, opened; one process at a time may write it (`lock_folder` sees to that).

    `committed`: the position up to which results were kept; a log that ends before it goes on there, after a `gap`
    record. `durability` `process`: what `append` returned for survives kill -9, `disk`: also a power loss.
    `read_only` changes nothing in the folder. `torn_bytes`, `gap` and `problems` say what opening found: the size of
    the torn tail it cut off, the positions that were left out, and damage in the last segment.

    Raises PermanentError if a newer version wrote the log, RetryableError if the disk is full.
    """

    def __init__(
        self,
        folder: Path,
        *,
        committed: int = 0,
        segment_bytes: int = SEGMENT_BYTES,
        max_bytes: int | None = None,
        max_age_seconds: float | None = None,
        durability: Durability = "process",
        read_only: bool = False,
    ) -> None:
        self.folder, self.read_only = Path(folder), read_only
        self.torn_bytes = 0
        self.gap: tuple[int, int] | None = None
        self.problems: list[Problem] = []
        self._segment_bytes, self._max_bytes, self._max_age_seconds = segment_bytes, max_bytes, max_age_seconds
        self._disk = durability == "disk"
        self._lock = threading.Lock()
        self._sync_lock = threading.Lock()
        self._segments: list[Segment] = []
        self._fd = -1
        self._end = self._synced = self._first_received = self._last_received = 0
        self._must_cut = self._must_rewrite = False
        self._failures = 0
        # Entries not yet on disk, to be written again after a failed fsync; bounded by one segment.
        self._unsynced: list[Chunk] = []
        with refusing(self.folder):
            self._load()
        if not read_only:
            self._begin(committed)

    @classmethod
    def open(cls, folder: Path, committed: int = 0, **settings: Unpack[Settings]) -> Self:
        """The log in `folder`, going on at or behind `committed`."""
        return cls(folder, committed=committed, **settings)

    @property
    def start(self) -> int:
        """The oldest position that is kept."""
        return self._segments[0].first

    @property
    def end(self) -> int:
        """The position that the next record gets."""
        return self._end

    # -- opening -------------------------------------------------------------------------------------------------

    def _load(self) -> None:
        if not self.read_only:
            self.folder.mkdir(parents=True, exist_ok=True)
        for path in sorted(path for path in self.folder.glob("*.log") if _NAME.fullmatch(path.name)):
            with suppress(FileNotFoundError):  # a running process may drop old segments while another looks
                self._segments.append(read_header(path, int(path.stem)))
        while self._segments and is_blank(self._segments[-1].path):
            blank = self._segments.pop()
            self.torn_bytes += blank.bytes
            if not self.read_only:
                blank.path.unlink()
        if self._segments:
            self._scan(self._segments[-1])
        elif self.read_only:
            raise PermanentError(f"{self.folder} holds no log: name the folder that holds the *.log segments")

    def _scan(self, last: Segment) -> None:
        """Find the end of the last segment, and cut off what is torn."""
        self._end, self._last_received = last.first, last.previous_received
        size, body = last.bytes, memoryview(b"")
        if last.damaged_header:
            self.problems.append(header_problem(last))
        for item in last.entries(last.bytes):
            if isinstance(item, Problem):
                if item.torn:
                    size = item.offset
                    break
                self.problems.append(item)
                self._end = item.resume
                continue
            position, offset, body = item
            self._first_received = self._first_received or _received(body)
            self._end = position + 1
            last.note(position, offset)
        self._last_received = _received(body) or self._last_received
        if size < last.bytes:
            self.torn_bytes += last.bytes - size
            logger.info("%s: %d bytes of an unfinished record are cut off", last.path, last.bytes - size)
            if not self.read_only:
                os.truncate(last.path, size)
            last.bytes = size
        for problem in self.problems:
            ERRORS.labels("log").inc()
            logger.warning("the log is damaged: %s", problem)

    def _begin(self, committed: int) -> None:
        """Make the last segment ready to be written, or a new one where that one is damaged or ends too early."""
        if not self._segments or committed > self._end:
            before, self._end = self._end, committed
            self._create(before)
        elif self.problems:
            self._create(self._end)
        else:
            with refusing(self._segments[-1].path):
                self._fd = os.open(self._segments[-1].path, os.O_RDWR | os.O_CLOEXEC)
        active = self._segments[-1]
        self._synced = active.first  # what a process wrote before us may not be on the disk yet
        if active.bytes == HEADER_BYTES and active.previous_end < active.first:
            self.gap = (active.previous_end, active.first)
            ERRORS.labels("log").inc()
            logger.warning(
                "the log ended at %d although %d was committed, as after a power loss: records %d to %d are lost and "
                "are left out from now on (durability: disk prevents this)",
                active.previous_end, active.first, active.previous_end, active.first - 1,
            )  # fmt: skip
            payload = msgspec.json.encode(Gap(active.previous_end, active.first))
            self.append(Record("", "log", GAP, self._last_received, payload), wait=False)
            self.sync()

    def _create(self, previous_end: int) -> None:
        """Begin a segment at `end`, and leave the one before as it is."""
        path = self.folder / f"{self._end:020d}.log"
        fd = -1
        try:
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
            write_at(fd, header_bytes(self._end, previous_end, self._last_received), 0)
            sync_folder(self.folder)
        except OSError as error:
            if fd >= 0:
                os.close(fd)
                with suppress(OSError):
                    path.unlink()
            raise refusal(path, error) from error
        old, self._fd = self._fd, fd
        if old >= 0:
            os.close(old)
        if self._segments and self._segments[-1].first == self._end:
            self._segments.pop()  # it held nothing but a damaged header, and has just been overwritten
        self._segments.append(Segment(path, self._end, previous_end, self._last_received, HEADER_BYTES))
        self._first_received = 0

    # -- writing -------------------------------------------------------------------------------------------------

    def append(self, record: Record, *, wait: bool = True) -> int:
        """Append a record and return its position, once it is as durable as the log's `durability` says.

        `wait` = False returns before the fsync of `durability: disk`; `sync(position + 1)` then waits for it.
        Raises RetryableError if the disk refuses: then the log is as it was (a refused fsync leaves the record in).
        """
        return self.append_many((record,), wait=wait).start

    def append_many(self, batch: Sequence[Record], *, wait: bool = True) -> range:
        """Append records, all or none, and return their positions; otherwise as `append`."""
        bodies = [encode_body(record) for record in batch]
        checks = [crc32(body) for body in bodies]
        with self._lock:
            first = self._end
            if not bodies:
                return range(first, first)
            data = b"".join(
                encode_entry(first + n, body, check) for n, (body, check) in enumerate(zip(bodies, checks, strict=True))
            )
            self._write(data, len(bodies))
            self._first_received = self._first_received or batch[0].received_unix_nano
            self._last_received = batch[-1].received_unix_nano
        if wait and self._disk:
            self.sync(first + len(bodies))
        return range(first, first + len(bodies))

    def _write(self, data: bytes, count: int) -> None:
        if self._fd < 0:
            raise PermanentError(f"the log in {self.folder} is closed or was opened to be read only")
        active = self._segments[-1]
        if self._must_cut:
            self._cut(active)
        if active.bytes > HEADER_BYTES and active.bytes + len(data) > self._segment_bytes:
            self._roll()
            active = self._segments[-1]
        offset = active.bytes
        try:
            write_at(self._fd, data, offset)
        except OSError as error:
            self._must_cut = True
            with suppress(RetryableError):
                self._cut(active)
            raise refusal(active.path, error) from error
        active.note(self._end, offset)
        active.bytes = offset + len(data)
        self._end += count
        if self._disk:
            self._unsynced.append((offset, data))

    def _cut(self, active: Segment) -> None:
        """Take back what a failed write left behind the last whole entry."""
        with refusing(active.path):
            os.ftruncate(self._fd, active.bytes)
        self._must_cut = False

    def _roll(self) -> None:
        """Begin a new segment. The old one is synced first, so that a power loss can only hurt the last one."""
        with refusing(self._segments[-1].path):
            self._flush(self._fd, self._unsynced)
        self._create(self._end)
        self._synced, self._unsynced = self._end, []

    def sync(self, end: int | None = None) -> None:
        """Return once everything below `end` (default: all) is on the disk; threads that wait share one fsync.

        Raises RetryableError if the disk refuses.
        """
        with self._sync_lock:
            with self._lock:
                if self._fd < 0 or self._synced >= (self._end if end is None else end):
                    return
                target, chunks, path = self._end, self._unsynced, self._segments[-1].path
                count = len(chunks)
                fd = os.dup(self._fd)  # the segment may be closed meanwhile
            try:
                with refusing(path):
                    self._flush(fd, chunks[:count])
            finally:
                os.close(fd)
            with self._lock:
                self._synced = max(self._synced, target)
                del chunks[:count]

    def _flush(self, fd: int, chunks: list[Chunk]) -> None:
        # After a failed fsync the system may hold the pages for clean: only writing them again makes the next one
        # true. Two threads can be here, for one file; while one fails, the other must not forget that.
        failures, again = self._failures, self._must_rewrite
        self._must_rewrite = True
        try:
            if again:
                for offset, data in chunks:
                    write_at(fd, data, offset)
            os.fdatasync(fd)
        except OSError:
            self._failures += 1
            raise
        self._must_rewrite = failures != self._failures

    def trim(self, now_unix_nano: int, keep_from: int) -> int:
        """Drop old segments while the log is larger or older than it may be; returns how many.

        A segment that holds a position at or above `keep_from` (the oldest kept snapshot) stays, as does the last.
        """
        age = None if self._max_age_seconds is None else int(self._max_age_seconds * 1e9)
        dropped = 0
        with self._lock:
            # A log that fills slowly must age too: its last segment is closed after a quarter of the time.
            if age is not None and self._fd >= 0 and 0 < self._first_received < now_unix_nano - age // 4:
                self._roll()
            while len(self._segments) > 1:
                oldest, following = self._segments[:2]
                big = self._max_bytes is not None and self._size() > self._max_bytes
                old = age is not None and 0 < following.previous_received < now_unix_nano - age
                if self.read_only or following.first > keep_from or not (big or old):
                    break
                with refusing(oldest.path):
                    oldest.path.unlink(missing_ok=True)
                del self._segments[0]
                dropped += 1
        return dropped

    def close(self) -> None:
        """Sync and let go; reading goes on to work."""
        try:
            self.sync()
        finally:
            with self._lock:
                if self._fd >= 0:
                    os.close(self._fd)
                self._fd = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # -- reading -------------------------------------------------------------------------------------------------

    def read(self, position: int) -> Iterator[tuple[int, Record]]:
        """Records from `position` to the present end, each with the position after it.

        Raises PermanentError if `position` is no longer kept, DamagedLogError where a record cannot be trusted.
        """
        spans = self._spans()
        if position < spans[0][0].first:
            raise PermanentError(
                f"position {position} is no longer kept: the log in {self.folder} begins at {spans[0][0].first}; "
                "begin there, or restore older segments"
            )
        return self._read(spans, position)

    def _read(self, spans: Spans, position: int) -> Iterator[tuple[int, Record]]:
        for item in records(spans, self._end, position):
            if not isinstance(item, Problem):
                yield item
            elif item.resume > max(position, item.position):
                ERRORS.labels("log").inc()
                raise DamagedLogError(item)

    def _spans(self) -> Spans:
        with self._lock:
            return [(segment, segment.bytes) for segment in self._segments]

    def inspect(self) -> LogSummary:
        """Count what the log holds, reading all of it; damaged places are passed over and counted."""
        return summary(self._spans(), self._end, self.torn_bytes)

    def verify(self) -> list[Problem]:
        """Read and check every record, and return what is damaged; a torn tail is no damage."""
        return problems(self._spans(), self._end)

    def _size(self) -> int:
        return sum(segment.bytes for segment in self._segments)

    @property
    def bytes(self) -> int:
        """Size of the log on disk."""
        with self._lock:
            return self._size()


def inspect_log(folder: Path) -> LogSummary:
    """Count what the log in a folder holds, changing nothing; a process may be writing it meanwhile."""
    return SegmentLog(folder, read_only=True).inspect()


def verify_log(folder: Path) -> list[Problem]:
    """What is damaged in the log in a folder, changing nothing; a process may be writing it meanwhile."""
    return SegmentLog(folder, read_only=True).verify()


def _received(body: memoryview) -> int:
    try:
        return decode_body(body).received_unix_nano
    except msgspec.MsgspecError:
        return 0
