"""When snapshots of tasks over Kafka are taken, and their writing."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from itertools import groupby

from foreshock.config import Snapshot
from foreshock.runtime.copier import Copier
from foreshock.runtime.distributed_clients import Transactions
from foreshock.runtime.distributed_format import Meta, Part
from foreshock.runtime.distributed_state import Keeper
from foreshock.runtime.distributed_tasks import KafkaTask
from foreshock.runtime.writer import SnapshotWrite
from foreshock.telemetry import SNAPSHOT_SECONDS

REPEAT_SECONDS = 0.25
"""A snapshot is early where it would take so long to repeat what came since the last."""
EARLY_SECONDS = 2.0
"""Least time before an early one."""
Tasks = Mapping[tuple[str, int], KafkaTask]


class Copies:
    """Copies the states of a worker's tasks, one after the other, in slices between batches.

    Each is copied every `snapshot.every`, and early where much has come since, so that whoever takes it over has little
    to repeat; a task's early copies take no more than `snapshot.share` of the time.
    """

    def __init__(self, settings: Snapshot, keeper: Keeper) -> None:
        self._settings, self._keeper = settings, keeper
        self._copiers: dict[tuple[str, int], Copier] = {}
        self._early = 0.0

    def add(self, at: tuple[str, int]) -> None:
        """A task has come."""
        self._copiers[at] = Copier(self._settings)
        self._copiers[at].put_off(time.perf_counter())

    def drop(self, at: tuple[str, int]) -> None:
        """A task has gone."""
        self._copiers.pop(at, None)

    def wanted(self, tasks: Tasks, now: float) -> bool:
        """Whether it is time to begin one."""
        return self._next(tasks, now) is not None and not any(copier.busy for copier in self._copiers.values())

    def _next(self, tasks: Tasks, now: float) -> tuple[str, int] | None:
        """Of the tasks that are due, the one with most to repeat."""
        early = now >= self._early
        due = [
            at
            for at, copier in self._copiers.items()
            if tasks[at].sequence and (copier.due(now) or (early and tasks[at].repeat_seconds >= REPEAT_SECONDS))
        ]
        return max(due, key=lambda at: tasks[at].repeat_seconds, default=None)

    def advance(self, tasks: Tasks, now: float) -> tuple[KafkaTask, SnapshotWrite] | None:
        """Copy a slice of one task's state, or begin; a copy that is whole is to be written."""
        busy = next((at for at, copier in self._copiers.items() if copier.busy), None)
        if busy is not None:
            write = self._copiers[busy].advance()
            return None if write is None else (tasks[busy], write)
        at = self._next(tasks, now)
        # Between two transactions, so that it stands between two runs.
        if at is not None and not tasks[at].steps and not tasks[at].outbox:
            self._begin(self._copiers[at], tasks[at])
        return None

    def _begin(self, copier: Copier, task: KafkaTask) -> None:
        self._keeper.begun(task)
        copier.begin(task, task.sequence)
        task.repeat_seconds = 0.0

    def whole(self, task: KafkaTask) -> SnapshotWrite:
        """The state of a task, copied at once."""
        copier = Copier(self._settings)
        self._begin(copier, task)
        self._copiers.pop(task.lead, None)
        while True:
            write = copier.advance()
            if write is not None:
                return write

    def write(
        self,
        task: KafkaTask,
        write: SnapshotWrite,
        transactions: Transactions,
        commit: Callable[[KafkaTask, Meta], None],
    ) -> None:
        """Blocks and manifest in one transaction, which `commit` ends together with the task's offsets.

        Raises AbortedError where it is given up.
        """
        started = time.perf_counter()
        transactions.begin()
        written: list[tuple[str, bytes, list[int]]] = []
        for name, digest, out in self._keeper.blocks(task, write):
            written.append((name, digest, []))
            transactions.send(out, written[-1][2].append)
        transactions.flush()
        if not all(places for _, _, places in written):
            transactions.give_up("a snapshot cannot be written")
        manifest, out = self._keeper.manifest(task, write, _parts(written))
        place: list[int] = []
        transactions.send(out, place.append)
        transactions.flush()
        if not place:
            transactions.give_up("a snapshot cannot be written")
        meta = Meta(task.sequence, place[0])
        commit(task, meta)
        self._keeper.written(task.name, manifest, place[0])
        ended = time.perf_counter()
        took = write.seconds + ended - started
        SNAPSHOT_SECONDS.observe(took)
        self._early = ended + max(EARLY_SECONDS, took / self._settings.share / max(1, len(self._copiers)))


def _parts(written: list[tuple[str, bytes, list[int]]]) -> list[Part]:
    """The parts of a manifest."""
    return [
        Part(name, [(place[0], digest) for _, digest, place in group])
        for name, group in groupby(written, lambda entry: entry[0])
    ]
