"""When snapshots of tasks over Kafka are taken, and their way into the log."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from itertools import groupby, islice

from foreshock.adapters.kafka.messages import Out
from foreshock.config import Snapshot
from foreshock.runtime.copier import Copier
from foreshock.runtime.distributed_format import Manifest, Part
from foreshock.runtime.distributed_state import Keeper
from foreshock.runtime.distributed_tasks import KafkaTask
from foreshock.runtime.writer import SnapshotWrite
from foreshock.telemetry import SNAPSHOT_SECONDS

REPEAT_SECONDS = 0.1
"""A snapshot is early where it would take so long to repeat what came since the last."""
EARLY_SECONDS = 2.0
"""Least time before an early one."""
BLOCKS_A_SECOND, LEAST_BLOCKS, ALL = 100.0, 2, 1 << 30
"""Blocks of a snapshot that go with transactions, and with one at least; at the end nobody waits for them."""
Tasks = Mapping[tuple[str, int], KafkaTask]
Send = Callable[[Out, Callable[[int], None]], None]
"""Sends a message, and tells its offset once it is written."""


class Writing:
    """A snapshot on its way into the log: blocks, so many with each transaction of runs, and behind them the manifest.

    `ride` is called within a transaction that commits the task's offsets too, `arrived` when that is over.
    """

    def __init__(self, task: KafkaTask, write: SnapshotWrite, keeper: Keeper, most: int) -> None:
        self.task = task
        self._write, self._keeper, self._most = write, keeper, most
        self._blocks = keeper.blocks(task, write)
        self._sent: list[tuple[str, bytes, list[int]]] = []
        self._closed: tuple[Manifest, list[int]] | None = None
        self._whole = False
        # What it has cost (s): copying, and making and sending blocks.
        self.seconds = write.seconds

    def ride(self, send: Send) -> None:
        """Send what goes with this transaction."""
        started = time.perf_counter()
        if self._whole:
            manifest, out = self._keeper.manifest(self.task, self._write, _parts(self._sent))
            self._closed = manifest, []
            send(out, self._closed[1].append)
        else:
            before = len(self._sent)
            for name, digest, out in islice(self._blocks, self._most):
                self._sent.append((name, digest, []))
                send(out, self._sent[-1][2].append)
            self._whole = len(self._sent) < before + self._most
        self.seconds += time.perf_counter() - started

    @property
    def written(self) -> bool:
        """Whether all that was sent stands in the log."""
        return all(places for _, _, places in self._sent) and (self._closed is None or bool(self._closed[1]))

    def arrived(self) -> bool:
        """Take note that a transaction was committed; whether it closed the snapshot."""
        if self._closed is None:
            return False
        manifest, places = self._closed
        self._keeper.written(self.task.name, manifest, places[0])
        return True

    def let_go(self) -> None:
        """Give the copy back: all of it is written, or will not be."""
        self._write.job.release()


class Copies:
    """Copies the states of a worker's tasks, one after the other, in slices between batches.

    Each is copied every `snapshot.every`, and early where much has come since, so that whoever takes it over has little
    to repeat; a task's early copies take no more than `snapshot.share` of the time. `commit_interval` lies between two
    transactions, in seconds: the longer, the more blocks go with one.
    """

    def __init__(self, settings: Snapshot, keeper: Keeper, commit_interval: float) -> None:
        self._settings, self._keeper = settings, keeper
        self._blocks = max(LEAST_BLOCKS, round(BLOCKS_A_SECOND * commit_interval))
        self._copiers: dict[tuple[str, int], Copier] = {}
        self._early = 0.0

    def add(self, at: tuple[str, int]) -> None:
        """A task has come."""
        self._copiers[at] = Copier(self._settings)
        self._copiers[at].put_off(time.perf_counter())

    def drop(self, at: tuple[str, int]) -> None:
        """A task has gone."""
        self._copiers.pop(at, None)

    def _next(self, tasks: Tasks, now: float) -> tuple[str, int] | None:
        """Of the tasks that are due, the one with most to repeat."""
        early = now >= self._early
        due = [
            at
            for at, copier in self._copiers.items()
            if tasks[at].sequence and (copier.due(now) or (early and tasks[at].repeat_seconds >= REPEAT_SECONDS))
        ]
        return max(due, key=lambda at: tasks[at].repeat_seconds, default=None)

    def begin(self, tasks: Tasks, now: float) -> None:
        """Begin a copy if one is due and none under way.

        To be called where a transaction of all that was consumed has just been begun, so between two runs.
        """
        at = None if any(copier.busy for copier in self._copiers.values()) else self._next(tasks, now)
        if at is not None:
            self._begin(self._copiers[at], tasks[at])

    def advance(self, tasks: Tasks) -> Writing | None:
        """Copy a slice of the copy under way, if there is one; once it is whole it is to be written."""
        busy = next((at for at, copier in self._copiers.items() if copier.busy), None)
        write = None if busy is None else self._copiers[busy].advance()
        return None if busy is None or write is None else Writing(tasks[busy], write, self._keeper, self._blocks)

    def _begin(self, copier: Copier, task: KafkaTask) -> None:
        self._keeper.begun(task)
        copier.begin(task, task.sequence)
        task.repeat_seconds = 0.0

    def whole(self, task: KafkaTask) -> Writing:
        """The state of a task, copied at once and to be written at once."""
        copier = Copier(self._settings)
        self._begin(copier, task)
        self._copiers.pop(task.lead, None)
        while True:
            write = copier.advance()
            if write is not None:
                return Writing(task, write, self._keeper, ALL)

    def written(self, writing: Writing) -> None:
        """A snapshot is in the log."""
        SNAPSHOT_SECONDS.observe(writing.seconds)
        pause = writing.seconds / self._settings.share / max(1, len(self._copiers))
        self._early = time.perf_counter() + max(EARLY_SECONDS, pause)


def _parts(written: list[tuple[str, bytes, list[int]]]) -> list[Part]:
    """The parts of a manifest."""
    return [
        Part(name, [(place[0], digest) for _, digest, place in group])
        for name, group in groupby(written, lambda entry: entry[0])
    ]
