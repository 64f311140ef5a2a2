"""The embedded runtime: one log, one task, one process.

One pipeline thread owns the task; a writer thread commits; sources and the HTTP server hand in records through
`submit`, which returns once a record is in the log. Contains no detection logic.
"""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from time import perf_counter

from foreshock.adapters.decode import decode
from foreshock.adapters.sql import Store
from foreshock.config import Config
from foreshock.errors import ConfigError, ForeshockError, PermanentError, RetryableError
from foreshock.incident.story import alert_labels
from foreshock.ports import Clock
from foreshock.runtime.copier import Copier
from foreshock.runtime.figures import Complaints, Figures, figures
from foreshock.runtime.inbox import Inbox, Queued
from foreshock.runtime.keeper import Keeper
from foreshock.runtime.log import SegmentLog
from foreshock.runtime.outputs import CommitBuilder
from foreshock.runtime.recovery import Origin, Reader, find_origin, numerics_change, task_of
from foreshock.runtime.snapshot import SnapshotStore
from foreshock.runtime.stamp import INTERVALS, Told, ended, stamped
from foreshock.runtime.task import Outputs, Task, Watermark, about, decode_watermark, encode_json, newest
from foreshock.runtime.ticker import Ticker
from foreshock.runtime.views import Views
from foreshock.runtime.writer import Chore, Forget, Writer
from foreshock.telemetry import ERRORS, EVENT_TO_VERDICT, LOG_BYTES, WATERMARK, drop
from foreshock.types import Alert, Control, ControlKind, Decoded, Record, label_text
from foreshock.types import record as records

logger = logging.getLogger(__name__)

TASK = "embedded"
COMMIT_SECONDS = 0.2
COMMIT_ROWS = 8192
FIGURES_SECONDS = 1.0
POINTS_SECONDS = 10.0
"""Time between two looks at which series have points enough to be stored."""
RETRY_SECONDS = 1.0
MOST_SAID = 1000
"""Alerts of this run that are kept for its report."""


class Embedded:
    """Runs one task over one log, and recovers it.

    `on_commit` is called in the writer thread after each commit. `tick_seconds` is the time between two looks at how
    far time has come; 0 = the caller calls `tick` himself.
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
        *,
        tick_seconds: float = 1.0,
    ) -> None:
        self.config, self.clock, self.log, self.store, self.snapshots, self.views = (
            config, clock, log, store, snapshots, views,
        )  # fmt: skip
        self.ticker = Ticker(
            {source.name: int(source.lateness_seconds * 1e9) for source in config.sources},
            int(config.default_lateness_seconds * 1e9),
        )
        self.task = Task(config, bands=True)
        self.inbox = Inbox(config.limits)
        self.writer = Writer(store, snapshots, on_commit)
        self._keeper = Keeper(views, store.stretches)
        self.figures = Figures()
        self.recovered_records = 0
        # The latest state of each episode that this process spoke of; the oldest go first.
        self.said: dict[str, Alert] = {}
        # When each of them was first decided (Unix ns).
        self.decided: dict[str, int] = {}
        self.ready = threading.Event()
        # When the watermark last rose, and when recovery was over, by the clock.
        self.advanced_unix_nano = self.ready_unix_nano = clock.now_unix_nano()
        self._failed: str | None = None
        self._tick_seconds = tick_seconds
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._threads: list[threading.Thread] = []
        self._position = 0
        self._has_config = False
        self._told = Told(store.control)
        self._commits = CommitBuilder(TASK)
        self._copier = Copier(config.snapshot)
        self._complaints = Complaints()
        self._next_figures = self._next_points = 0.0

    @property
    def failed(self) -> str | None:
        """Why nothing is judged any more; None while all is well."""
        return self._failed or self.writer.failed

    # -- taking in -----------------------------------------------------------------------------------------------

    def reserve(self, size: int) -> AbstractContextManager[None]:
        """Hold queue space for one record of `size` bytes; RetryableError if there is none."""
        if not self.ready.is_set():
            raise RetryableError("starting: the log is still being read; send it again")
        if self._stopping.is_set():
            raise RetryableError("stopping: send it again when Foreshock is back")
        return self.inbox.reserve(size, self.failed or self.writer.trouble)

    def decode(self, record: Record) -> Decoded:
        """Parse and validate without touching a slot; BadInputError if nothing in it can be used."""
        return decode(record, self.config.mapping)

    def submit(self, record: Record, samples: Decoded | None = None, *, reserved: bool = False) -> int:
        """Accept a record: once this returns it is in the log and will be judged, also after a crash.

        `reserved` says that the caller holds its space by `reserve`. Returns the number of samples. Raises
        RetryableError when the queue or the disk is full, BadInputError when nothing in the record can be used.
        """
        if not reserved:
            with self.reserve(len(record.payload)):
                return self.submit(record, samples, reserved=True)
        if samples is None and record.content_type not in _OWN:
            samples = self.decode(record)
        with self._lock:
            end = self._append(record, samples)
            if record.content_type == records.WATERMARK:
                self.ticker.watermark = max(self.ticker.watermark, decode_watermark(record.payload))
        self._sync(end)
        if samples is None:
            return 0
        for reason, count in samples.dropped.items():
            drop(record.source, reason, count)
        return len(samples)

    def control(self, control: Control) -> Control:
        """Append a control record, stamped so that it takes effect where nothing is decided yet; returns it stamped.

        Another record of the same id changes the first one's interval (`runtime.stamp`). Raises RetryableError as
        `submit`.
        """
        before = self._told.of(control.id) if control.kind in INTERVALS else None
        with self.reserve(0):
            with self._lock:
                one = stamped(control, before, self.ticker.watermark + self.ticker.longest_lateness())
                # Under one lock, so that no watermark gets in between and decides what this is to change.
                end = self._append(self._own(records.CONTROL, encode_json(one)))
            self._sync(end)
        self._told.note(one)
        return one

    def end_control(self, name: str, author: str = "") -> Control | None:
        """End an interval of maintenance, a deploy or a silence from now on; None where there is none of this id.

        Raises RetryableError as `submit`.
        """
        known = self._told.of(name)
        if known is None or known.kind not in INTERVALS:
            return None
        return self.control(ended(known, self.clock.now_unix_nano(), author))

    def tick(self) -> None:
        """Say how far time has come: a watermark record where it has moved. Raises RetryableError as `submit`."""
        LOG_BYTES.set(self.log.bytes)
        now = self.clock.now_unix_nano()
        with self._lock:
            before = self.ticker.watermark
            mark = self.ticker.tick(now)
            if mark is None:
                return
            try:
                with self.reserve(0):
                    end = self._append(self._own(records.WATERMARK, encode_json(Watermark(mark))))
            except RetryableError:
                self.ticker.watermark = before  # it has not been said: the next tick says it
                raise
        self._sync(end)

    def _append(self, record: Record, samples: Decoded | None = None) -> int:
        """Append and enqueue, in one order (the lock is held); the position after the record."""
        end = self.log.append(record, wait=False) + 1
        largest = newest(samples, record, self.config) if samples is not None else None
        if largest is not None:
            self.ticker.saw(record.source, largest, self.clock.now_unix_nano())
        self.inbox.put(Queued(end, record, samples, perf_counter()))
        return end

    def _sync(self, end: int) -> None:
        if self.config.log.durability == "disk":
            self.log.sync(end)

    def _own(self, content_type: str, payload: bytes) -> Record:
        return Record(self.config.environment, "foreshock", content_type, self.clock.now_unix_nano(), payload)

    # -- life ----------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Recover, then follow the log; `ready` is set when the log has been caught up with.

        Raises PermanentError where the log, or what is to be read of it again, cannot be trusted.
        """
        origin = find_origin(self.log, self.snapshots, self.store.committed(TASK))
        self.writer.start()
        self._thread("pipeline", lambda: self._run(origin))
        if self._tick_seconds:
            self._thread("ticker", self._tick)

    def stop(self) -> None:
        """Judge what is queued, commit, snapshot, end. What cannot be stored now is left for the next start."""
        self._stopping.set()
        self.writer.hurry()
        self.inbox.close()
        for thread in self._threads:
            thread.join()
        self._threads.clear()
        self.writer.join()

    def _thread(self, name: str, target: Callable[[], None]) -> None:
        thread = threading.Thread(target=target, name=f"foreshock-{name}", daemon=True)
        self._threads.append(thread)
        thread.start()

    def _tick(self) -> None:
        self.ready.wait()
        while not self._stopping.wait(self._tick_seconds):
            try:
                self.tick()
                self.log.trim(self.clock.now_unix_nano(), self.snapshots.oldest_position() or 0)
            except (ForeshockError, OSError) as error:
                ERRORS.labels("ticker").inc()
                logger.warning("no watermark: %s", error)

    def _run(self, origin: Origin) -> None:
        try:
            self._recover(origin)
            self._complaints.begin(self.task.pipeline.counts())
            self.advanced_unix_nano = self.ready_unix_nano = self.clock.now_unix_nano()
            self.ready.set()
            self._follow()
            self._end()
        except (PermanentError, ConfigError) as error:
            self._fail(error)
            self._commit()  # what was decided before it is said
        except Exception as error:
            # The edge of a runner: nothing above can handle it. The process lives and says that it is not ready.
            self._fail(error)
            logger.exception("the pipeline has stopped")
        finally:
            self.ready.set()
            self.writer.finish()

    def _fail(self, error: Exception) -> None:
        self._failed = f"the pipeline has stopped: {error}"
        ERRORS.labels("pipeline").inc()
        logger.error("%s", self._failed)

    def _follow(self) -> None:
        while not self.writer.failed:
            try:
                item = self.inbox.get(COMMIT_SECONDS)
            except queue.Empty:
                self._between(idle=True)
                continue
            if item is None:
                return
            self._take(item.next_position, item.record, self.task.process(item.record, item.samples), item.samples)
            EVENT_TO_VERDICT.observe(perf_counter() - item.accepted)
            self.inbox.done(item)
            self._between(idle=self.inbox.empty())

    # -- recovery ------------------------------------------------------------------------------------------------

    def _recover(self, origin: Origin) -> None:
        """Newest usable snapshot → the committed part again, silently → the rest of the log, with outputs."""
        if origin.snapshot is not None:
            self.task, self._has_config = task_of(origin.snapshot), True
            self.views.load_rollups(origin.snapshot.states, self.task.pipeline.registry)
        self._position = origin.position
        reader = Reader(self.log, lambda config: config.digest != self.config.digest)
        for position, record in self.log.read(origin.position):
            if self._stopping.is_set():
                return
            said = position <= origin.committed
            outputs = reader.judge(self.task, position, record)
            self._take(position, record, outputs, emit=not said)
            self.recovered_records += 1
            self._between(idle=False, snapshot=not said)
        now = self.clock.now_unix_nano()
        with self._lock:
            for source, largest in self.task.sources.items():
                self.ticker.saw(source, largest, now)
            self.ticker.watermark = max(self.ticker.watermark, self.task.watermark)
        upgrade = numerics_change(origin.snapshot) if origin.snapshot is not None else None
        if upgrade is not None:
            self._begin_with(records.UPGRADE, encode_json(upgrade))
        if not self._has_config or self.task.config.digest != self.config.digest:
            self._begin_with(records.CONFIG, self.config.resolved())

    def _begin_with(self, content_type: str, payload: bytes) -> None:
        """Append a record of our own before others may; waits for a disk that is full."""
        record = self._own(content_type, payload)
        while not self._stopping.is_set():
            try:
                position = self.log.append(record)
            except RetryableError as error:
                ERRORS.labels("pipeline").inc()
                logger.warning("the log cannot be written, trying again in %g s: %s", RETRY_SECONDS, error)
                self._stopping.wait(RETRY_SECONDS)
            else:
                self._take(position + 1, record, self.task.process(record))
                return

    # -- one record ----------------------------------------------------------------------------------------------

    def _take(
        self, next_position: int, record: Record, outputs: Outputs, samples: Decoded | None = None, emit: bool = True
    ) -> None:
        """Show and keep what a record brought about; `emit` = False where that has been said before."""
        self._position = next_position - 1
        for control in outputs.controls:
            if control.kind is ControlKind.FORGET:
                self._forget(control, emit)
        self._position = next_position
        self._has_config = self._has_config or record.content_type == records.CONFIG
        registry = self.task.pipeline.registry
        for columns in outputs.columns:
            self.views.feed(columns.rows, columns.verdicts, registry, columns.alarmed)
        self.views.feed_alerts(outputs.alerts)
        if samples is not None:
            oldest = int(samples.time_unix_nano.min()) if len(samples) else None
            self.views.sources.feed(record.source, record.received_unix_nano, len(samples), oldest)
        WATERMARK.set(self.task.watermark / 1e9)
        if record.content_type == records.WATERMARK:
            self.advanced_unix_nano = self.clock.now_unix_nano()
        if emit:
            self._remember(outputs.alerts)
            self._commits.add(next_position - 1, outputs, registry)
            if self._commits.rows >= COMMIT_ROWS:
                self._commit()
        self._keep_full()

    def _remember(self, alerts: list[Alert]) -> None:
        for alert in alerts:
            self.said.pop(alert.episode, None)
            self.said[alert.episode] = alert
            self.decided.setdefault(alert.episode, alert.decided_unix_nano)
            if len(self.said) > MOST_SAID:
                oldest = next(iter(self.said))
                del self.said[oldest], self.decided[oldest]

    def _forget(self, control: Control, emit: bool) -> None:
        """Take what is shown and stored of the entities away.

        Everything before the record is committed first, the record itself after the rows are gone: after a crash in
        between, it is read again and they go again.
        """
        known = self.task.pipeline.registry.entities
        entities = [entity for entity in known if entity and control.matches(dict(entity))]
        for alert in self.views.alerts():
            if any(about(alert, entity) for entity in entities):
                self.views.feed_alerts([replace(alert, ends_unix_nano=control.effective_unix_nano)])
        registry = self.task.pipeline.registry
        for entity in entities:
            slot = registry.entity_slot(entity)
            self.views.forget(label_text(entity), registry.columns[slot], slot)
        if emit and entities:
            self._commit()
            # In alerts, an entity's labels have the names that Prometheus accepts.
            texts = (text for one in entities for text in (label_text(one), label_text(alert_labels(one, {}))))
            self.writer.put(Forget(tuple(dict.fromkeys(texts))))

    def _keep_full(self) -> None:
        """Have the chunks of roll-ups that are full stored: behind what they are made of, before the next snapshot."""
        full = self._keeper.full(self.task.pipeline.registry)
        if full:
            self._commit()
            self.writer.put(Chore(lambda: self._keeper.put(full)))

    # -- between records -----------------------------------------------------------------------------------------

    def _between(self, *, idle: bool, snapshot: bool = True) -> None:
        now = perf_counter()
        if self._commits.due(now, COMMIT_SECONDS, idle):
            self._commit()
        if self._copier.busy:
            self._copy()
        elif snapshot and self._position > 0 and self._copier.due(now):
            self._copier.begin(self.task, self._position, self.views.rollups_state())
        if now >= self._next_points and self.writer.offer(Chore(self._keeper.keep_points)):
            self._next_points = now + POINTS_SECONDS
        if now >= self._next_figures:
            self._next_figures = now + FIGURES_SECONDS
            self._publish(now)

    def _commit(self) -> None:
        commit = self._commits.take(self._position, perf_counter())
        if commit is not None:
            self.writer.put(commit)

    def _copy(self) -> None:
        write = self._copier.advance()
        if write is not None:
            self._commit()  # a snapshot is of use once what stands before it is committed
            self.writer.put(write)

    def _publish(self, now: float) -> None:
        self.figures = figures(self.task)
        if self.ready.is_set():
            for sentence in self._complaints.of(self.figures.counts, now):
                logger.warning("%s", sentence)

    def _end(self) -> None:
        self._commit()
        self._publish(perf_counter())
        if not self._copier.busy and self._position > 0:
            self._copier.begin(self.task, self._position, self.views.rollups_state())
        while self._copier.busy:
            self._copy()
        self.writer.put(Chore(self._keeper.keep_all_points))


_OWN = frozenset({records.WATERMARK, records.CONFIG, records.CONTROL, records.GAP, records.UPGRADE})
