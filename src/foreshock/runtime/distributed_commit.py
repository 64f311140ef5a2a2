"""The transactions of a worker, one after the other, each sent while the worker goes on judging."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any, NamedTuple

from foreshock.adapters.kafka.client import library
from foreshock.adapters.kafka.messages import Out
from foreshock.adapters.kafka.stretch import At
from foreshock.runtime.distributed_clients import AbortedError, Transactions
from foreshock.runtime.distributed_format import Meta, encode_meta
from foreshock.runtime.distributed_state import Keeper
from foreshock.runtime.distributed_tasks import KafkaTask

logger = logging.getLogger(__name__)

MOST_TRIES = 5
Tasks = Mapping[At, KafkaTask]


class Said(NamedTuple):
    """What a task consumed and said, as one transaction is to hold it."""

    task: KafkaTask
    run: Out | None
    outbox: list[Out]
    offsets: list[Any]


class Commits:
    """What tasks consumed and said, committed in order; at most one transaction is on its way at a time.

    `group` gives the consumer group's metadata: a member that was replaced commits nothing.
    """

    def __init__(self, transactions: Transactions, keeper: Keeper, group: Callable[[], Any]) -> None:
        self._transactions, self._keeper, self._group = transactions, keeper, group
        self._said: list[Said] = []
        self._tries = 0
        self._sender = ThreadPoolExecutor(1, "transactions")
        self._sent: Future[None] | None = None

    @property
    def pending(self) -> bool:
        """Whether something is on its way, or has to be sent again."""
        return bool(self._said)

    @property
    def on_its_way(self) -> bool:
        """Whether a transaction is on its way."""
        return self._sent is not None

    def begin(self, tasks: Tasks) -> None:
        """Begin a transaction of all that tasks consumed and said since the last, if that is anything.

        What is left of one that was given up is sent again with it, unless its task has gone.
        """
        self._said = [said for said in self._said if tasks.get(said.task.lead) is said.task]
        self._said += [self._taken(task) for task in tasks.values() if task.steps or task.outbox]
        if self._said:
            self._sent = self._sender.submit(self._send, list(self._said), self._group())

    def ended(self, *, wait: bool) -> set[At]:
        """See to the end of the transaction on its way; the leads of the tasks that must go back to what is committed.

        Without `wait` it may still be on its way afterwards.
        """
        if self._sent is None or not (wait or self._sent.done()):
            return set()
        sent, self._sent = self._sent, None
        try:
            sent.result()
        except AbortedError as error:
            return self._given_up(error)
        self._said, self._tries = [], 0
        return set()

    def commit_alone(self, task: KafkaTask, meta: Meta) -> None:
        """End a transaction that was begun elsewhere with the offsets of one task."""
        self._transactions.commit(_offsets(task, meta), self._group())

    def close(self) -> None:
        """Let go of what is not committed."""
        self._transactions.close()
        self._sender.shutdown()

    def _taken(self, task: KafkaTask) -> Said:
        """What a task has to say, which is none of its own any more."""
        run = self._keeper.run_message(task, task.run()) if task.steps else None
        outbox, task.outbox = task.outbox, []
        return Said(task, run, outbox, _offsets(task, self._keeper.meta(task)))

    def _send(self, all_said: list[Said], group: Any) -> None:
        self._transactions.begin()
        offsets: dict[At, Any] = {}
        for said in all_said:
            if said.run is not None:
                self._transactions.send(said.run, partial(self._keeper.run_written, said.task.name))
            self._transactions.send_all(said.outbox)
            offsets |= {(one.topic, one.partition): one for one in said.offsets}
        self._transactions.commit(list(offsets.values()), group)

    def _given_up(self, error: AbortedError) -> set[At]:
        """Have it sent again, if it is sure that it has not happened; else its tasks go back."""
        self._tries += 1
        if error.sure and self._tries <= MOST_TRIES:
            logger.info("%s; it is sent again", error)
            return set()
        logger.warning("%s; its tasks go back to what is committed", error)
        astray = {said.task.lead for said in self._said}
        self._said, self._tries = [], 0
        return astray


def _offsets(task: KafkaTask, meta: Meta) -> list[Any]:
    """All offsets of a task, with `meta` at that of its lead."""
    make = library().TopicPartition
    return [make(*at, offset, encode_meta(meta) if at == task.lead else "") for at, offset in task.positions.items()]
