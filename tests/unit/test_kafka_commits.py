"""The transactions of a worker, without Kafka: what goes with them, and what becomes of it when one is given up."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NoReturn

import pytest

from foreshock.adapters.kafka.messages import Out
from foreshock.adapters.kafka.options import KafkaOptions
from foreshock.config import Snapshot
from foreshock.runtime.distributed_clients import AbortedError
from foreshock.runtime.distributed_commit import Commits
from foreshock.runtime.distributed_copies import Copies, Writing
from foreshock.runtime.distributed_format import Meta, decode_meta
from foreshock.runtime.distributed_keyed import Keyed
from foreshock.runtime.distributed_state import Keeper
from tests.unit.test_kafka_copies import whole
from tests.unit.test_kafka_keyed import LAYOUT, event, keyed, user_of


class Log:
    """What was committed: messages, and the metadata of offsets; `refused` transactions are given up."""

    def __init__(self) -> None:
        self.sent: list[Out] = []
        self.named: list[Meta] = []
        self.refused = 0
        self.silent = False
        self._open: list[tuple[Out, Callable[[int], None] | None]] = []

    def begin(self) -> None:
        self._open = []

    def send(self, out: Out, written: Callable[[int], None] | None = None) -> None:
        self._open.append((out, written))

    def send_all(self, messages: Sequence[Out]) -> None:
        for out in messages:
            self.send(out)

    def flush(self) -> None:
        for number, (_, written) in enumerate(self._open):
            if written is not None and not self.silent:
                written(len(self.sent) + number)

    def commit(self, offsets: Sequence[Any], group: Any) -> None:
        if self.refused:
            self.refused -= 1
            self.give_up("refused")
        self.flush()
        self.sent += [out for out, _ in self._open]
        self.named += [decode_meta(one.metadata) for one in offsets if one.metadata]

    def give_up(self, why: str) -> NoReturn:
        raise AbortedError(why, sure=True)

    def close(self) -> None: ...


@pytest.fixture
def log() -> Log:
    return Log()


@pytest.fixture
def told() -> list[Writing]:
    """Snapshots that are said to be in the log."""
    return []


@pytest.fixture
def keeper() -> Keeper:
    return Keeper(KafkaOptions(), LAYOUT)


@pytest.fixture
def commits(log: Log, keeper: Keeper, told: list[Writing]) -> Iterator[Commits]:
    one = Commits(log, keeper, lambda: None, told.append)  # type: ignore[arg-type]
    yield one
    one.close()


def working(step: int, task: Keyed | None = None) -> Keyed:
    """A task that has taken something."""
    one = keyed() if task is None else task
    one.positions.setdefault(one.lead, 0)
    one.take([event(user_of(0), step, step, user_of(0))])
    return one


def copied(keeper: Keeper, task: Keyed) -> Writing:
    copies = Copies(Snapshot(every=1.0), keeper, 0.02)
    copies.add(task.lead)
    copies.begin({task.lead: task}, time.perf_counter() + 2.0)
    writing = whole(copies, {task.lead: task})
    assert writing is not None
    return writing


def once(commits: Commits, task: Keyed) -> None:
    commits.begin({task.lead: task})
    assert commits.ended(wait=True) == set()


def test_a_snapshot_is_named_by_offsets_once_it_is_in_the_log_without_new_events(
    commits: Commits, keeper: Keeper, log: Log, told: list[Writing]
) -> None:
    task = working(0)
    once(commits, task)
    writing = copied(keeper, task)
    commits.carry(writing)
    while commits.carries:
        once(commits, task)
    assert told == [writing]
    assert {meta.snapshot for meta in log.named} == {-1}
    named = [not commits.unfinished]
    once(commits, task)
    named.append(not commits.unfinished)
    assert named == [False, True]
    assert log.named[-1] == Meta(1, len(log.sent) - 1)
    before = len(log.named)
    once(commits, task)
    assert len(log.named) == before, "nothing is left to be said"


def test_runs_go_on_beside_a_snapshot(commits: Commits, keeper: Keeper, log: Log) -> None:
    task = working(0)
    once(commits, task)
    commits.carry(copied(keeper, task))
    step = 0
    while commits.unfinished:
        step += 1
        once(commits, working(step, task))
    assert [meta.run for meta in log.named] == list(range(1, step + 2))
    assert sum(out.topic == LAYOUT.runs for out in log.sent) == step + 1


@pytest.mark.parametrize("how", ["refused", "silent"])
def test_a_transaction_that_is_given_up_lets_its_snapshot_go_and_nothing_else(
    commits: Commits, keeper: Keeper, log: Log, told: list[Writing], how: str
) -> None:
    task = working(0)
    once(commits, task)
    commits.carry(copied(keeper, task))
    once(commits, working(1, task))
    if how == "refused":
        log.refused = 1
    else:
        log.silent = True
    once(commits, working(2, task))
    log.silent = False
    assert not commits.carries
    assert commits.pending
    once(commits, task)
    assert log.named[-1] == Meta(3, -1)
    assert not told
    commits.carry(copied(keeper, task))
    while commits.unfinished:
        once(commits, task)
    assert log.named[-1].snapshot == len(log.sent) - 1


def test_a_task_that_goes_takes_its_snapshot_with_it(commits: Commits, keeper: Keeper) -> None:
    task = working(0)
    once(commits, task)
    commits.carry(copied(keeper, task))
    commits.drop(keyed(1))
    assert commits.carries
    commits.drop(task)
    assert not commits.unfinished
