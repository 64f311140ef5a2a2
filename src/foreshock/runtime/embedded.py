"""The embedded runtime: one log, one task, one process.

One pipeline thread owns the task; a writer thread commits; sources and the HTTP server hand in records through
`submit`, which returns once a record is in the log. Contains no detection logic.
"""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from time import perf_counter

from foreshock.adapters.decode import decode
from foreshock.adapters.sql import Store
from foreshock.config import Config, parse_resolved
from foreshock.errors import PermanentError, RetryableError
from foreshock.ports import Clock
from foreshock.runtime.log import SegmentLog
from foreshock.runtime.outputs import Commit, CommitBuilder
from foreshock.runtime.snapshot import Snapshot, SnapshotJob, SnapshotStore, numerics_id
from foreshock.runtime.task import Outputs, Task, Watermark, encode_json
from foreshock.runtime.ticker import Ticker
from foreshock.runtime.views import Views
from foreshock.telemetry import (
    DROPPED,
    ERRORS,
    EVENT_TO_VERDICT,
    LOG_BYTES,
    QUEUE_RECORDS,
    SNAPSHOT_SECONDS,
    SNAPSHOT_STALL,
    WATERMARK,
)
from foreshock.types import Control, Record, Samples
from foreshock.types import record as records

logger = logging.getLogger(__name__)

TASK = "embedded"
COMMIT_SECONDS = 0.2
COMMIT_ROWS = 8192
SLICE_SECONDS = 0.002
"""How long copying for a snapshot may hold the pipeline at a time."""


@dataclass(slots=True)
class _Queued:
    next_position: int
    record: Record
    samples: Samples | None
    accepted: float


@dataclass(slots=True)
class _SnapshotWrite:
    position: int
    job: SnapshotJob
    config: bytes
    watermark: int
    sources: dict[str, int]
    seconds: float


class Embedded:
    """Runs one task over one log, and recovers it.

    `on_outputs` is called in the pipeline thread with what each record brought about (views, terminal).
    """

    def __init__(
        self,
        config: Config,
        clock: Clock,
        log: SegmentLog,
        store: Store,
        snapshots: SnapshotStore,
        views: Views,
        on_commit: Callable[[], None] = lambda: None,
    ) -> None:
        self.config, self.clock, self.log, self.store, self.snapshots, self.views = (
            config, clock, log, store, snapshots, views,
        )  # fmt: skip
        self.on_commit = on_commit
        self.ticker = Ticker(
            {source.name: int(source.lateness_seconds * 1e9) for source in config.sources},
            int(config.default_lateness_seconds * 1e9),
        )
        self.task = Task(config, bands=True)
        self.recovered_records = 0
        self.ready = threading.Event()
        self.failed: str | None = None
        self.advanced_unix_nano = clock.now_unix_nano()
        # Bounded: a full queue refuses the sender (RetryableError, HTTP 429), who keeps what he has.
        self._queue: queue.SimpleQueue[_Queued | None] = queue.SimpleQueue()
        self._queued_records = 0
        self._queued_bytes = 0
        self._lock = threading.Lock()
        # Bounded: a slow or full disk makes the pipeline wait, never the event loop.
        self._writes: queue.Queue[Commit | _SnapshotWrite | None] = queue.Queue(8)
        self._stopping = threading.Event()
        self._threads: list[threading.Thread] = []
        self._position = 0
        self._commits = CommitBuilder(TASK)
        self._job: SnapshotJob | None = None
        self._job_meta: tuple[int, bytes, int, dict[str, int]] = (0, b"", 0, {})
        self._job_seconds = 0.0
        self._next_snapshot = 0.0
        self.config_position = -1
        self._upgraded = b""

    # -- taking in -----------------------------------------------------------------------------------------------

    @contextmanager
    def reserve(self, size: int) -> Iterator[None]:
        """Hold queue space for one record of `size` bytes; RetryableError if there is none."""
        if not self.ready.is_set():
            raise RetryableError("starting: the log is still being read; send it again")
        with self._lock:
            if (
                self._queued_records >= self.config.limits.queue_records
                or self._queued_bytes + size > self.config.limits.queue_bytes
            ):
                raise RetryableError("the queue is full: telemetry comes in faster than it is judged; send it again")
            self._queued_records += 1
            self._queued_bytes += size
        try:
            yield
        finally:
            self._release(size)

    def decode(self, record: Record) -> Samples:
        """Parse and validate without touching a slot; BadInputError if nothing in it can be used."""
        return decode(record, self.config.mapping)

    def submit(self, record: Record, samples: Samples | None = None, *, reserved: bool = False) -> int:
        """Accept a record: once this returns it is in the log and will be judged, also after a crash.

        `reserved` says that the caller holds its space by `reserve`. Returns the number of samples. Raises
        RetryableError when the queue or the disk is full, BadInputError when nothing in the record can be used.
        """
        size = len(record.payload)
        if not reserved:
            with self.reserve(size):
                return self.submit(record, samples, reserved=True)
        with self._lock:
            self._queued_records += 1
            self._queued_bytes += size
        try:
            if samples is None and record.content_type not in _OWN:
                samples = decode(record, self.config.mapping)
            with self._lock:
                position = self.log.append(record, wait=False)
                if samples is not None and len(samples):
                    largest = int(samples.time_unix_nano.max())
                    self.ticker.saw(record.source, largest, self.clock.now_unix_nano())
                self._queue.put(_Queued(position + 1, record, samples, perf_counter()))
        except BaseException:
            self._release(size)
            raise
        if self.config.log.durability == "disk":
            self.log.sync(position + 1)
        if samples is None:
            return 0
        for reason, count in samples.dropped.items():
            DROPPED.labels(reason).inc(count)
        return len(samples)

    def control(self, control: Control) -> Control:
        """Append a control record, stamped so that it takes effect where nothing is decided yet; returns it stamped."""
        lateness = max([*self.ticker.lateness_nano.values(), 0])
        with self._lock:
            effective = control.effective_unix_nano
            if control.kind not in _PAST:
                effective = max(effective, self.ticker.watermark + lateness)
        stamped = type(control)(
            **{f: getattr(control, f) for f in control.__struct_fields__} | {"effective_unix_nano": effective}
        )
        self.submit(self._own(records.CONTROL, encode_json(stamped)))
        return stamped

    def tick(self) -> None:
        """Say how far time has come: one watermark record a second where it has moved."""
        now = self.clock.now_unix_nano()
        with self._lock:
            mark = self.ticker.tick(now)
        if mark is not None:
            self.submit(self._own(records.WATERMARK, encode_json(Watermark(mark))))
        LOG_BYTES.set(self.log.bytes)
        QUEUE_RECORDS.set(self._queued_records)

    def _own(self, content_type: str, payload: bytes) -> Record:
        return Record(self.config.environment, "foreshock", content_type, self.clock.now_unix_nano(), payload)

    def _release(self, size: int) -> None:
        with self._lock:
            self._queued_records -= 1
            self._queued_bytes -= size

    # -- life ----------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Recover, then follow the log; returns at once, `ready` is set when the log has been caught up with."""
        for name, target in (("writer", self._write), ("pipeline", self._run), ("ticker", self._tick)):
            thread = threading.Thread(target=target, name=f"foreshock-{name}", daemon=True)
            self._threads.append(thread)
            thread.start()

    def stop(self) -> None:
        """Judge what is queued, commit, snapshot, end."""
        self._stopping.set()
        self._queue.put(None)
        for thread in reversed(self._threads):
            thread.join()
        self._threads.clear()

    def _tick(self) -> None:
        self.ready.wait()
        while not self._stopping.wait(1.0):
            try:
                self.tick()
                self.log.trim(self.clock.now_unix_nano(), self.snapshots.oldest_position() or 0)
            except RetryableError as error:
                ERRORS.labels("ticker").inc()
                logger.warning("no watermark: %s", error)

    def _run(self) -> None:
        try:
            self._recover()
            self.ready.set()
            while True:
                try:
                    item = self._queue.get(timeout=COMMIT_SECONDS)
                except queue.Empty:
                    self._between(idle=True)
                    continue
                if item is None:
                    break
                self._take(item.next_position, item.record, item.samples)
                EVENT_TO_VERDICT.observe(perf_counter() - item.accepted)
                self._release(len(item.record.payload))
                self._between(idle=self._queue.empty())
            self._end()
        except Exception as error:
            # The edge of a runner: nothing above can handle it. The process lives and says that it is not ready.
            self.failed = f"the pipeline has stopped: {error}"
            ERRORS.labels("pipeline").inc()
            logger.exception("the pipeline has stopped")
            self.ready.set()
        finally:
            self._put(None)

    # -- recovery ------------------------------------------------------------------------------------------------

    def _recover(self) -> None:
        """Newest usable snapshot → the committed part again, silently → the rest of the log, with outputs."""
        committed = self.store.committed(TASK)
        snapshot = self.snapshots.newest(committed)
        if snapshot is not None:
            self._load(snapshot)
        elif self.log.start > 0:
            raise PermanentError(
                f"the log begins at {self.log.start} and no snapshot can be read: "
                "move the data folder away to start afresh, or restore its snapshots folder"
            )
        live_from = self.log.end
        for position, record in self.log.read(self._position):
            self.recovered_records += 1
            self._take(position, record, None, emit=position > committed)
            if self._stopping.is_set():
                return
            if position >= live_from:
                break
            self._between(idle=False, snapshot=position > committed)
        now = self.clock.now_unix_nano()
        with self._lock:
            for source, largest in self.task.sources.items():
                self.ticker.saw(source, largest, now)
            self.ticker.watermark = max(self.ticker.watermark, self.task.watermark)
        if self._upgraded:
            self._append_own(records.UPGRADE, self._upgraded)
        if self.config_position < 0 or self.task.config.digest != self.config.digest:
            self._append_own(records.CONFIG, self.config.resolved())

    def _append_own(self, content_type: str, payload: bytes) -> None:
        record = self._own(content_type, payload)
        position = self.log.append(record)
        self._take(position + 1, record, None)

    def _load(self, snapshot: Snapshot) -> None:
        saved = parse_resolved(bytes(snapshot.meta["config"], "utf-8"))
        self.task = Task(saved, bands=True)
        self.task.load(snapshot.states, int(snapshot.meta["watermark"]))
        self.task.sources = dict(snapshot.meta["sources"])
        self._position = snapshot.position
        self.config_position = snapshot.position
        if snapshot.meta["numerics"] != numerics_id():
            logger.warning("numerics changed since the snapshot (%s → %s): results may differ in the last digits",
                           snapshot.meta["numerics"], numerics_id())  # fmt: skip
            self._upgraded = encode_json({"from": snapshot.meta["numerics"], "to": numerics_id()})

    # -- one record ----------------------------------------------------------------------------------------------

    def _take(self, next_position: int, record: Record, samples: Samples | None, emit: bool = True) -> None:
        outputs = self._judge(next_position, record, samples)
        position, self._position = self._position, next_position
        if record.content_type == records.CONFIG:
            self.config_position = next_position
        for columns in outputs.columns:
            self.views.feed(columns.rows, columns.verdicts, self.task.pipeline.registry)
        self.views.feed_alerts(outputs.alerts)
        if samples is not None:
            self.views.feed_source(record.source, record.received_unix_nano, len(samples))
        WATERMARK.set(self.task.watermark / 1e9)
        if record.content_type == records.WATERMARK:
            self.advanced_unix_nano = self.clock.now_unix_nano()
        if emit:
            self._commits.add(position, outputs, self.task.pipeline.registry)
            if self._commits.rows >= COMMIT_ROWS:
                self._commit()

    def _judge(self, next_position: int, record: Record, samples: Samples | None) -> Outputs:
        try:
            return self.task.process(record, samples)
        except PermanentError:
            raise
        except Exception:
            # A defect must not stop detection for everybody else, and replay meets it at the same record again.
            ERRORS.labels("operator").inc()
            logger.exception("record %d could not be judged and is passed over", next_position - 1)
            return Outputs()

    # -- between records -----------------------------------------------------------------------------------------

    def _between(self, *, idle: bool, snapshot: bool = True) -> None:
        now = perf_counter()
        if self._commits.due(now, COMMIT_SECONDS, idle):
            self._commit()
        if self._job is not None:
            self._advance_job()
        elif snapshot and now >= self._next_snapshot and self._position > 0:
            self._begin_job()

    def _commit(self) -> None:
        commit = self._commits.take(self._position, perf_counter())
        if commit is not None:
            self._put(commit)

    def _put(self, item: Commit | _SnapshotWrite | None) -> None:
        while self.failed is None or item is None:
            try:
                self._writes.put(item, timeout=COMMIT_SECONDS)
                return
            except queue.Full:
                if not self._threads[0].is_alive():
                    return

    def _begin_job(self) -> None:
        started = perf_counter()
        self._job = SnapshotJob(self.task.states())
        self._job_meta = (
            self._position, self.task.config.resolved(), self.task.watermark, dict(self.task.sources),
        )  # fmt: skip
        self._job_seconds = perf_counter() - started
        SNAPSHOT_STALL.observe(self._job_seconds)

    def _advance_job(self) -> None:
        assert self._job is not None
        started = perf_counter()
        done = self._job.advance(SLICE_SECONDS)
        spent = perf_counter() - started
        SNAPSHOT_STALL.observe(spent)
        self._job_seconds += spent
        if done:
            self._commit()
            position, config, watermark, sources = self._job_meta
            self._put(_SnapshotWrite(position, self._job, config, watermark, sources, self._job_seconds))
            share = self.config.snapshot.share
            self._next_snapshot = perf_counter() + max(self.config.snapshot.every, self._job_seconds / share)
            self._job = None

    def _end(self) -> None:
        self._commit()
        if self._job is None:
            self._begin_job()
        while self._job is not None:
            self._advance_job()

    # -- the writer ----------------------------------------------------------------------------------------------

    def _write(self) -> None:
        while (item := self._writes.get()) is not None:
            delay = 0.1
            while True:
                try:
                    if isinstance(item, Commit):
                        self.store.commit(item.task, item.start, item.end, item.alerts, item.verdicts, item.controls)
                        self.on_commit()
                    else:
                        self._write_snapshot(item)
                    break
                except (RetryableError, OSError) as error:
                    ERRORS.labels("writer").inc()
                    logger.warning("not written, trying again in %.1f s: %s", delay, error)
                    if self._stopping.is_set() and delay > 2:
                        return
                    self.clock.sleep(delay)
                    delay = min(2 * delay, 10.0)
                except PermanentError as error:
                    self.failed = f"results cannot be stored: {error}"
                    ERRORS.labels("writer").inc()
                    logger.error("%s", self.failed)
                    return

    def _write_snapshot(self, item: _SnapshotWrite) -> None:
        started = perf_counter()
        self.snapshots.write(
            item.position,
            item.job.finish(),
            {
                "config": item.config.decode(),
                "watermark": item.watermark,
                "sources": item.sources,
                "numerics": numerics_id(),
            },
        )
        item.job.release()
        SNAPSHOT_SECONDS.observe(item.seconds + perf_counter() - started)


_OWN = frozenset({records.WATERMARK, records.CONFIG, records.CONTROL, records.GAP, records.UPGRADE})
_PAST = frozenset({"maintenance", "deploy", "label"})
"""Control records that may speak of the past: they change refits and views only, there."""
