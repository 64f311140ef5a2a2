"""The writer thread: what the pipeline decided goes to the store, and copies of its state to snapshots, in order."""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter

from foreshock.adapters.sql import Store
from foreshock.errors import BadInputError, PermanentError, RetryableError
from foreshock.runtime.outputs import Commit
from foreshock.runtime.snapshot import SnapshotJob, SnapshotStore, numerics_id
from foreshock.telemetry import ERRORS, SNAPSHOT_SECONDS

logger = logging.getLogger(__name__)

FIRST_WAIT = 0.1
LONGEST_WAIT = 10.0
WAITING = 8
"""Writes that may wait. Policy: beyond, the pipeline waits, and with it the senders; never the event loop."""
_LOOK_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class SnapshotWrite:
    """The state of a task at a position, copied, and what else is needed to go on from there."""

    position: int
    job: SnapshotJob
    config: bytes
    watermark: int
    sources: dict[str, int]
    seconds: float


@dataclass(frozen=True, slots=True)
class Forget:
    """Entities (texts) whose rows are to be deleted; done again after a crash, which changes nothing."""

    entities: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Chore:
    """Something else to be done in its turn; done again after a failure, which changes nothing."""

    do: Callable[[], None]


Write = Commit | SnapshotWrite | Forget | Chore


class Writer:
    """Writes in the order of `put`; what fails in passing is tried again until it is in, and all behind it waits.

    `trouble` says what it is that fails now, `failed` that it has given up for good (a corrupt database, a defect).
    A snapshot that cannot be written is let go: the next one will be.
    """

    def __init__(self, store: Store, snapshots: SnapshotStore, on_commit: Callable[[], None] = lambda: None) -> None:
        self.store, self.snapshots, self.on_commit = store, snapshots, on_commit
        self.trouble: str | None = None
        self.failed: str | None = None
        self._queue: queue.Queue[Write | None] = queue.Queue(WAITING)
        self._stopping = threading.Event()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="foreshock-writer", daemon=True)

    def start(self) -> None:
        """Write from now on."""
        self._thread.start()

    def put(self, item: Write) -> bool:
        """Have something written, waiting for room; False when nothing is written any more."""
        return self._hand_over(item)

    def offer(self, item: Write) -> bool:
        """Have something written if there is room; False where there is none now."""
        if self._ended.is_set():
            return False
        try:
            self._queue.put_nowait(item)
        except queue.Full:
            return False
        return True

    def hurry(self) -> None:
        """From now on what fails is left for the next start, which finds it in the log."""
        self._stopping.set()

    def finish(self) -> None:
        """Say that nothing more comes; returns at once or when there is room to say so."""
        self._hand_over(None)

    def join(self) -> None:
        """Wait for the end."""
        if self._thread.ident is not None:
            self._thread.join()

    def _hand_over(self, item: Write | None) -> bool:
        while not self._ended.is_set():
            try:
                self._queue.put(item, timeout=_LOOK_SECONDS)
            except queue.Full:
                continue
            return True
        return False

    def _run(self) -> None:
        try:
            while (item := self._queue.get()) is not None and self._persist(item):
                pass
        except Exception as error:
            # The edge of a runner: whatever it was, going on would lose what was decided. The process lives, says
            # that it is not ready, and the next start takes it from the log.
            self.failed = f"results cannot be stored: {error}"
            ERRORS.labels("writer").inc()
            if isinstance(error, PermanentError):
                logger.error("%s", self.failed)
            else:
                logger.exception("the writer has stopped")
        finally:
            self._ended.set()

    def _persist(self, item: Write) -> bool:
        """Write one thing, however often it takes; False if that is left for the next start."""
        wait = FIRST_WAIT
        while True:
            try:
                self._write(item)
            except (RetryableError, OSError) as error:
                ERRORS.labels("writer").inc()
                if isinstance(item, SnapshotWrite):
                    logger.warning("a snapshot could not be written and is let go: %s", error)
                    return True
                if self._stopping.is_set():
                    logger.warning("not stored, and left for the next start, which finds it in the log: %s", error)
                    return False
                self.trouble = f"results cannot be stored now: {error}"
                logger.warning("not stored, trying again in %.1f s: %s", wait, error)
                self._stopping.wait(wait)
                wait = min(2 * wait, LONGEST_WAIT)
            else:
                self.trouble = None
                return True

    def _write(self, item: Write) -> None:
        if isinstance(item, Commit):
            self.store.commit(item.task, item.start, item.end, item.alerts, item.verdicts, item.controls)
            self.on_commit()
        elif isinstance(item, Forget):
            for entity in item.entities:
                try:
                    self.store.forget(entity)
                except BadInputError as error:
                    logger.warning("rows of an entity are not forgotten, they go with the retention: %s", error)
        elif isinstance(item, Chore):
            item.do()
        else:
            self._write_snapshot(item)

    def _write_snapshot(self, item: SnapshotWrite) -> None:
        started = perf_counter()
        try:
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
        finally:
            item.job.release()
        SNAPSHOT_SECONDS.observe(item.seconds + perf_counter() - started)
