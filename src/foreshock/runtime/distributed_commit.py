"""The transactions of a worker, one after the other, each sent while the worker goes on judging.

A snapshot goes with them, some of its blocks with each, so that nothing waits for it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any, NamedTuple

from foreshock.adapters.kafka.client import library
from foreshock.adapters.kafka.messages import Out
from foreshock.adapters.kafka.stretch import At
from foreshock.runtime.distributed_clients import CALL_SECONDS, AbortedError, Transactions
from foreshock.runtime.distributed_copies import Writing
from foreshock.runtime.distributed_format import Meta, encode_meta
from foreshock.runtime.distributed_prompt import Prompt
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

    `group` gives the consumer group's metadata: a member that was replaced commits nothing. `written` is told of each
    snapshot that is in the log. What goes by `prompt` must have arrived first.
    """

    def __init__(
        self,
        transactions: Transactions,
        keeper: Keeper,
        group: Callable[[], Any],
        written: Callable[[Writing], None],
        prompt: Prompt | None = None,
    ) -> None:
        self._transactions, self._keeper, self._group, self._written = transactions, keeper, group, written
        self._prompt = prompt
        self._said: list[Said] = []
        self._tries = 0
        self._sender = ThreadPoolExecutor(1, "transactions")
        self._sent: Future[None] | None = None
        # A snapshot that goes with transactions, and the leads of tasks whose newest one no committed offsets name yet.
        self._writing: Writing | None = None
        self._unnamed: set[At] = set()

    @property
    def pending(self) -> bool:
        """Whether something is on its way, or has to be sent again."""
        return bool(self._said)

    @property
    def on_its_way(self) -> bool:
        """Whether a transaction is on its way."""
        return self._sent is not None

    @property
    def carries(self) -> bool:
        """Whether a snapshot is on its way."""
        return self._writing is not None

    @property
    def unfinished(self) -> bool:
        """Whether a snapshot is on its way, or in the log and not named by committed offsets."""
        return self.carries or bool(self._unnamed)

    def carry(self, writing: Writing) -> None:
        """Have a snapshot written with the next transactions; only one at a time."""
        self._writing = writing

    def drop(self, task: KafkaTask) -> None:
        """A task has gone; no transaction is on its way."""
        self._unnamed.discard(task.lead)
        if self._writing is not None and self._writing.task is task:
            self._let_go(self._writing)

    def begin(self, tasks: Tasks) -> None:
        """Begin a transaction of all that tasks consumed and said since the last, if that is anything.

        What is left of one that was given up is sent again with it, unless its task has gone.
        """
        self._said = [said for said in self._said if tasks.get(said.task.lead) is said.task]
        also = self._unnamed if self._writing is None else self._unnamed | {self._writing.task.lead}
        self._said += [self._taken(task) for at, task in tasks.items() if task.steps or task.outbox or at in also]
        self._unnamed = set()
        if self._said:
            prompt = 0 if self._prompt is None else self._prompt.sent
            self._sent = self._sender.submit(self._send, list(self._said), self._writing, self._group(), prompt)

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
        if self._writing is not None and self._writing.arrived():
            self._unnamed.add(self._writing.task.lead)
            self._written(self._writing)
            self._let_go(self._writing)
        return set()

    def close(self) -> None:
        """Let go of what is not committed."""
        if self._prompt is not None:
            self._prompt.close()
        self._transactions.close()
        self._sender.shutdown()

    def _taken(self, task: KafkaTask) -> Said:
        """What a task has to say, which is none of its own any more."""
        run = self._keeper.run_message(task, task.run()) if task.steps else None
        outbox, task.outbox = task.outbox, []
        return Said(task, run, outbox, _offsets(task, self._keeper.meta(task)))

    def _send(self, all_said: list[Said], writing: Writing | None, group: Any, prompt: int) -> None:
        self._transactions.begin()
        offsets: dict[At, Any] = {}
        for said in all_said:
            if said.run is not None:
                self._transactions.send(said.run, partial(self._keeper.run_written, said.task.name))
            self._transactions.send_all(said.outbox)
            offsets |= {(one.topic, one.partition): one for one in said.offsets}
        if writing is not None:
            writing.ride(self._transactions.send)
            self._transactions.flush()
            if not writing.written:
                self._transactions.give_up("a snapshot cannot be written")
        if self._prompt is not None and not self._prompt.have_arrived(prompt, CALL_SECONDS):
            self._transactions.give_up("verdicts cannot be written")
        self._transactions.commit(list(offsets.values()), group)

    def _given_up(self, error: AbortedError) -> set[At]:
        """Have it sent again, if it is sure that it has not happened; else its tasks go back."""
        self._tries += 1
        if self._writing is not None:
            logger.warning("a snapshot of %s is let go: %s", self._writing.task.name, error)
            self._let_go(self._writing)
        if error.sure and self._tries <= MOST_TRIES:
            logger.info("%s; it is sent again", error)
            return set()
        logger.warning("%s; its tasks go back to what is committed", error)
        astray = {said.task.lead for said in self._said}
        self._said, self._tries = [], 0
        return astray

    def _let_go(self, writing: Writing) -> None:
        """A snapshot is in the log, or will not come into it."""
        writing.let_go()
        self._writing = None


def _offsets(task: KafkaTask, meta: Meta) -> list[Any]:
    """All offsets of a task, with `meta` at that of its lead."""
    make = library().TopicPartition
    return [make(*at, offset, encode_meta(meta) if at == task.lead else "") for at, offset in task.positions.items()]
