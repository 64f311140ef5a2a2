"""The distributed runtime: Kafka's consume–transform–produce loop around keyed tasks and the environment task.

Kafka assigns the partitions of the keyed and the environment topic, and with them the tasks; partitions of inputs
follow the keyed task of their number. What tasks say, their runs and their offsets are one transaction. Contains no
detection logic (CONTRACTS §5), no membership and no replication: those are Kafka's (ADR 3, ADR 15).
"""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from foreshock.adapters.kafka.client import library, translate
from foreshock.adapters.kafka.options import KafkaOptions
from foreshock.adapters.kafka.stretch import At, Message, Stretch
from foreshock.adapters.kafka.topics import Layout, prepare
from foreshock.config import Config
from foreshock.errors import PermanentError, RetryableError
from foreshock.ports import Clock
from foreshock.runtime.distributed_clients import Ends, Reader, Transactions, find_protocol
from foreshock.runtime.distributed_commit import Commits
from foreshock.runtime.distributed_copies import Copies
from foreshock.runtime.distributed_format import Meta, decode_meta
from foreshock.runtime.distributed_keyed import Keyed
from foreshock.runtime.distributed_prompt import Prompt
from foreshock.runtime.distributed_state import Keeper
from foreshock.runtime.distributed_tasks import EnvironmentTask, KafkaTask
from foreshock.runtime.distributed_watch import Watch
from foreshock.telemetry import (
    ERRORS,
    EVENT_TO_VERDICT,
    KAFKA_LOST,
    KAFKA_REBALANCES,
    KAFKA_RESTORE_SECONDS,
)

logger = logging.getLogger(__name__)

WAIT_SECONDS = 0.005
_END = "_PARTITION_EOF"
MOST_ROWS = 50_000
MOST_OUT = 20_000
RETRY_SECONDS = 0.5
FIGURES_SECONDS = 1.0
DRAIN_SECONDS = 20.0


class Worker:
    """One worker: some of the tasks, as Kafka assigns them. `run` until `stop` is set.

    Raises ConfigError where topics or clients are not as they must be, PermanentError where going on would be wrong.
    """

    def __init__(self, config: Config, clock: Clock, stop: threading.Event) -> None:
        self.options: KafkaOptions = config.kafka.filled(os.environ)
        # What tasks judge by: the same for all workers, whatever each is called and wherever it finds its brokers.
        self.config = config.model_copy(update={"kafka": KafkaOptions(inputs=self.options.inputs)})
        self.clock, self._stop = clock, stop
        self.name = self.options.worker or socket.gethostname()
        self.layout: Layout = prepare(self.options)
        self.tasks: dict[At, KafkaTask] = {}
        self.protocol, timeout = find_protocol(self.options)
        self._kafka = library()
        self._transactions = Transactions(self.options, f"{self.options.group}-{self.name}", timeout)
        self._prompt = Prompt(self.options) if self.options.verdicts == "at_least_once" else None
        self._keeper = Keeper(self.options, self.layout)
        # Verdicts that do not wait for transactions would wait for the blocks that go with a long one.
        interval = self.options.commit_interval if self._prompt is None else 0.0
        self._copies = Copies(self.config.snapshot, self._keeper, interval)
        self._commits = Commits(
            self._transactions,
            self._keeper,
            lambda: self._reader.group.consumer_group_metadata(),
            self._copies.written,
            self._prompt,
        )
        self._reader = Reader(
            self.options,
            self.protocol,
            {
                "topics": [self.layout.keyed, self.layout.environment],
                "assign": self._assigned,
                "revoke": self._revoked,
                "lost": self._lost,
            },
        )
        self._last_commit = self._next_figures = 0.0
        self._watch, self._ends = Watch(self._reader), Ends(self.options)
        # Tasks whose state is ahead of what is committed, since a transaction was given up.
        self._astray: set[At] = set()

    def run(self) -> None:
        """Work until it is told to stop; then hand over what it has."""
        try:
            while not self._stop.is_set():
                self._cycle()
            self._drain()
        except self._kafka.KafkaException as error:
            raise translate(error, "Kafka") from error
        finally:
            self.tasks.clear()
            self._commits.close()
            self._reader.close()

    def _cycle(self) -> None:
        groups = self._reader.read(WAIT_SECONDS)
        if self._astray:
            groups = self._bring_back(groups)
        self._dispatch(groups)
        self._look_for_ends()
        self._go_on(idle=not groups)
        self._copy()
        now = time.perf_counter()
        if now >= self._next_figures:
            self._next_figures = now + FIGURES_SECONDS
            self._watch.publish(self.tasks, now)

    def _go_on(self, *, idle: bool) -> None:
        """See to the transaction on its way, and begin the next if it is time."""
        self._look_for_end(wait=self._is_full())
        if not self._commits.on_its_way and self._is_due(time.perf_counter(), idle=idle):
            self._commit()
            self._watch.balance(self.tasks)

    # -- messages ------------------------------------------------------------------------------------------------

    def _dispatch(self, groups: Sequence[tuple[At, Sequence[Message]]]) -> None:
        now = self.clock.now_unix_nano()
        for at, group in groups:
            task = self._task_of(at)
            if task is None:
                for _, error in _between_errors(group):
                    if error is not None and error.error().fatal():
                        raise PermanentError(f"Kafka: {error.error().str()}")
                continue
            task.now = now
            for stretch, error in _between_errors(group):
                if stretch:
                    task.take(stretch)
                    if self._prompt is not None:
                        self._prompt.send(task.anomalies())
                    written = stretch[-1].timestamp()[1] / 1e3
                    EVENT_TO_VERDICT.observe(max(0.0, self.clock.now_unix_nano() / 1e9 - written))
                if error is not None and error.error().name() == _END:
                    task.ended[at] = error.offset()
                elif error is not None:
                    self._failed(at, task, error.error())
            # What one partition brought need not wait for all others.
            self._go_on(idle=False)

    def _look_for_ends(self) -> None:
        """Ask the brokers where inputs end, and tell the tasks what they answered."""
        for at, (end, when) in self._ends.answers().items():
            task = self._task_of(at)
            if task is not None:
                task.asked(at, end, when)
        followers = [at for task in self.tasks.values() for at in task.followers]
        self._ends.ask(followers, self.clock.now_unix_nano())

    def _task_of(self, at: At) -> KafkaTask | None:
        if at in self.tasks:
            return self.tasks[at]
        if at[0] == self.layout.control:
            return self.tasks.get((self.layout.environment, 0))
        if at[0] in self.layout.inputs:
            return self.tasks.get((self.layout.keyed, at[1] % self.layout.tasks))
        return None

    def _failed(self, at: At, task: KafkaTask, error: Any) -> None:
        """Something went wrong with a partition."""
        ERRORS.labels("kafka").inc()
        if error.name() in ("_AUTO_OFFSET_RESET", "OFFSET_OUT_OF_RANGE"):
            task.positions[at] = self._position(at, task.positions[at])
            consumer = self._reader.group if at == task.lead else self._reader.inputs
            consumer.seek(self._kafka.TopicPartition(*at, task.positions[at]))
            return
        if error.fatal():
            raise PermanentError(f"Kafka: {error.str()}")
        logger.warning("%s/%d: %s", *at, error.str())

    def _position(self, at: At, committed: int) -> int:
        """Where to read a partition: where it was left, or, where that is gone, where `kafka.start` says, loudly."""
        low, high = self._reader.bounds(at)
        start = low if self.options.start == "earliest" or at[0] not in self.layout.inputs else high
        if committed < 0:
            return start
        if low <= committed <= high:
            return committed
        lost = max(0, start - committed)
        KAFKA_LOST.labels(at[0]).inc(lost)
        logger.error(
            "%s/%d has offsets %d to %d, and was read up to %d: %d messages are lost, "
            "reading goes on at %d (kafka.start)", *at, low, high, committed, lost, start,
        )  # fmt: skip
        return start

    # -- transactions --------------------------------------------------------------------------------------------

    def _is_due(self, now: float, *, idle: bool) -> bool:
        if now - self._last_commit >= self.options.commit_interval:
            return True
        return self._is_full() or (idle and any(task.outbox for task in self.tasks.values()))

    def _is_full(self) -> bool:
        """Whether tasks have so much to say that it must be said before they go on."""
        waiting = sum(len(task.outbox) for task in self.tasks.values())
        return waiting >= MOST_OUT or sum(task.rows for task in self.tasks.values()) >= MOST_ROWS

    def _commit(self) -> None:
        """Begin one transaction of all that tasks consumed and said since the last, if none is on its way."""
        if self._astray or self._commits.on_its_way:
            return
        self._last_commit = time.perf_counter()
        now = self.clock.now_unix_nano()
        for task in self.tasks.values():
            task.now = now
            task.words()
        self._commits.begin(self.tasks)
        if not self._commits.carries and not self._stop.is_set():
            self._copies.begin(self.tasks, self._last_commit)

    def _look_for_end(self, *, wait: bool) -> None:
        """See whether the transaction on its way has ended, and how."""
        self._astray |= self._commits.ended(wait=wait) & self.tasks.keys()

    def _settle(self) -> None:
        """Commit all of it, again where that was given up for sure."""
        self._look_for_end(wait=True)
        self._commit()
        self._look_for_end(wait=True)
        while self._commits.pending and not self._astray:
            self._commit()
            self._look_for_end(wait=True)

    def _bring_back(self, groups: list[tuple[At, Sequence[Message]]]) -> list[tuple[At, Sequence[Message]]]:
        """Tasks whose transaction was given up begin again from what is committed, if they are still ours.

        Of what was read before, that of these tasks is read again; that of all others is given back.
        """
        astray, self._astray = self._astray, set()
        astray &= self.tasks.keys()
        rest = [(at, group) for at, group in groups if self._lead_of(at) not in astray]
        for at in astray:
            self._drop(at)
        for task in self._bring(sorted(astray)):
            self._reader.group.seek(self._kafka.TopicPartition(*task.lead, task.positions[task.lead]))
            self._assign_inputs(task)
        return rest

    def _lead_of(self, at: At) -> At | None:
        """The task that what a partition brings is for."""
        task = self._task_of(at)
        return None if task is None else task.lead

    # -- tasks ---------------------------------------------------------------------------------------------------

    def _assigned(self, consumer: Any, partitions: list[Any]) -> None:
        KAFKA_REBALANCES.labels("assigned").inc()
        self._settle()
        begin = []
        for task in self._bring((one.topic, one.partition) for one in partitions):
            begin.append(self._kafka.TopicPartition(*task.lead, task.positions[task.lead]))
            self._assign_inputs(task)
        consumer.incremental_assign(begin)
        logger.info("%s has the tasks %s", self.name, ", ".join(sorted(t.name for t in self.tasks.values())) or "none")

    def _revoked(self, consumer: Any, partitions: list[Any]) -> None:
        """Commit what was consumed of partitions that go to somebody else, then let go of them."""
        KAFKA_REBALANCES.labels("revoked").inc()
        self._settle()
        for one in partitions:
            self._drop((one.topic, one.partition))
        consumer.incremental_unassign(partitions)

    def _lost(self, consumer: Any, partitions: list[Any]) -> None:
        """The group went on without us: what is not committed is somebody else's to do."""
        KAFKA_REBALANCES.labels("lost").inc()
        self._look_for_end(wait=True)
        logger.warning("%s was taken for dead and has lost %d tasks", self.name, len(partitions))
        for one in partitions:
            self._drop((one.topic, one.partition))
        consumer.incremental_unassign(partitions)

    def _drop(self, at: At) -> None:
        task = self.tasks.pop(at, None)
        self._copies.drop(at)
        self._astray.discard(at)
        if task is None:
            return
        self._keeper.forget(task.name)
        self._commits.drop(task)
        followers = [self._kafka.TopicPartition(*one) for one in task.followers]
        self._watch.forget(task)
        if followers:
            self._reader.inputs.incremental_unassign(followers)

    def _assign_inputs(self, task: KafkaTask) -> None:
        begin = [self._kafka.TopicPartition(*at, task.positions[at]) for at in task.followers]
        if begin:
            self._reader.inputs.incremental_assign(begin)

    def _new(self, at: At) -> KafkaTask:
        if at[0] == self.layout.environment:
            return EnvironmentTask(self.config, self.layout, self.options.leave_out)
        return Keyed(self.config, self.layout, at[1], self.options.idle, self.config.limits.body_bytes)

    def _bring(self, leads: Iterable[At]) -> list[KafkaTask]:
        """Bring back tasks as they were committed; not all of them where we are told to stop meanwhile."""
        waiting, out = [self._new(at) for at in leads], list[KafkaTask]()
        while waiting and not self._stop.is_set():
            try:
                committed = self._reader.committed(at for task in waiting for at in task.inputs)
                while waiting and not self._stop.is_set():
                    out.append(self._restore(waiting[0], committed))
                    del waiting[0]
            except (RetryableError, self._kafka.KafkaException) as error:
                ERRORS.labels("restore").inc()
                logger.warning("%s cannot be brought back yet, trying again: %s", waiting[0].name, error)
                self._stop.wait(RETRY_SECONDS)
        self._keeper.restored()
        return out

    def _restore(self, task: KafkaTask, committed: Mapping[At, Any]) -> KafkaTask:
        started, at = time.perf_counter(), task.lead
        meta = decode_meta(committed[at].metadata) if committed[at].offset >= 0 else Meta()
        try:
            task = self._keeper.restore(task, lambda: self._new(at), meta)
        except PermanentError as error:
            ERRORS.labels("restore").inc()
            logger.error("the state of %s is lost, it begins afresh: %s", task.name, error)
            task = self._new(at)
            task.sequence = meta.run
        for one in task.inputs:
            task.positions[one] = self._position(one, committed[one].offset)
        task.now = self.clock.now_unix_nano()
        task.restored()
        if task.use(self.config):
            logger.warning("%s goes on under changed settings", task.name)
        self.tasks[at] = task
        self._copies.add(at)
        KAFKA_RESTORE_SECONDS.observe(time.perf_counter() - started)
        return task

    # -- snapshots -----------------------------------------------------------------------------------------------

    def _copy(self) -> None:
        """Copy a slice of a task's state; a copy that is whole goes with the next transactions."""
        writing = None if self._astray else self._copies.advance(self.tasks)
        if writing is not None:
            self._commits.carry(writing)

    def _drain(self) -> None:
        """Commit, and leave a snapshot of each task, so that whoever takes it has nothing to repeat."""
        self._settle()
        deadline = time.monotonic() + DRAIN_SECONDS
        for task in [task for task in self.tasks.values() if task.sequence]:
            while self._commits.carries and not self._is_over(deadline):
                self._settle()
            if self._is_over(deadline):
                return
            self._commits.carry(self._copies.whole(task))
        while self._commits.unfinished and not self._is_over(deadline):
            self._settle()

    def _is_over(self, deadline: float) -> bool:
        """Whether there is no use in going on with the end."""
        return bool(self._astray) or time.monotonic() > deadline


def _between_errors(group: Sequence[Message]) -> Iterator[tuple[Sequence[Message], Any]]:
    """Stretches of messages, each with what stands behind it in a message's place: an error, the end of the partition
    if nothing came after it, or nothing.
    """
    looked = group.odd.items() if isinstance(group, Stretch) else enumerate(group)
    errors = [(at, one) for at, one in looked if one.error() is not None]
    if not errors:
        yield group, None
        return
    first, ends = 0, {at for at, one in errors if one.error().name() == _END}
    for at, one in errors:
        if at not in ends:
            yield _without(group, first, at, ends), one
            first = at + 1
    last = len(group) - 1
    yield _without(group, first, last + 1, ends), group[last] if last in ends else None


def _without(group: Sequence[Message], first: int, last: int, left: set[int]) -> Sequence[Message]:
    """The messages from `first` to before `last`, without those that are left out."""
    places = [at for at in range(first, last) if at not in left]
    return group.only(np.array(places, np.int64)) if isinstance(group, Stretch) else [group[at] for at in places]
