"""When snapshots of tasks over Kafka are begun."""

from __future__ import annotations

import time

import pytest

from foreshock.adapters.kafka.options import KafkaOptions
from foreshock.config import Snapshot
from foreshock.runtime.distributed_copies import EARLY_SECONDS, REPEAT_SECONDS, Copies
from foreshock.runtime.distributed_format import Meta
from foreshock.runtime.distributed_keyed import Keyed
from foreshock.runtime.distributed_state import Keeper
from foreshock.runtime.distributed_tasks import KafkaTask
from foreshock.runtime.writer import SnapshotWrite
from tests.unit.test_kafka_keyed import LAYOUT, event, keyed, user_of

EVERY = 30.0


def tasks_of(copies: Copies, count: int) -> dict[tuple[str, int], KafkaTask]:
    tasks: dict[tuple[str, int], KafkaTask] = {}
    for number in range(count):
        task = keyed(number)
        task.sequence = 1
        tasks[task.lead] = task
        copies.add(task.lead)
    return tasks


@pytest.fixture
def copies() -> Copies:
    return Copies(Snapshot(every=EVERY), Keeper(KafkaOptions(), LAYOUT))


def begun(copies: Copies, tasks: dict[tuple[str, int], KafkaTask], now: float) -> KafkaTask:
    """The task whose copy is begun, and made whole."""
    assert copies.wanted(tasks, now)
    assert copies.advance(tasks, now) is None
    assert not copies.wanted(tasks, now)
    found: tuple[KafkaTask, SnapshotWrite] | None = None
    while found is None:
        found = copies.advance(tasks, now)
    found[1].job.release()
    return found[0]


def test_each_is_due_after_its_time_and_not_at_once(copies: Copies) -> None:
    tasks, now = tasks_of(copies, 2), time.perf_counter()
    assert not copies.wanted(tasks, now)
    assert {begun(copies, tasks, now + EVERY).name for _ in range(2)} == {"keyed-0", "keyed-1"}
    assert not copies.wanted(tasks, now + 1)


def test_that_with_most_to_repeat_comes_first_and_early(copies: Copies) -> None:
    tasks, now = tasks_of(copies, 3), time.perf_counter()
    for task, seconds in zip(tasks.values(), (0.1, 2.0, 3.0), strict=True):
        task.repeat_seconds = seconds
    assert begun(copies, tasks, now).name == "keyed-2"
    assert begun(copies, tasks, now).name == "keyed-1"
    assert not copies.wanted(tasks, now)
    assert [task.repeat_seconds for task in tasks.values()] == [0.1, 0.0, 0.0]


def test_a_task_that_has_committed_nothing_is_not_copied(copies: Copies) -> None:
    tasks, now = tasks_of(copies, 1), time.perf_counter()
    for task in tasks.values():
        task.sequence, task.repeat_seconds = 0, 5.0
    assert not copies.wanted(tasks, now + EVERY)


def test_early_ones_take_their_share_of_the_time(copies: Copies) -> None:
    tasks, now = tasks_of(copies, 2), time.perf_counter()
    for task in tasks.values():
        task.repeat_seconds = REPEAT_SECONDS
    copies.advance(tasks, now)
    found = None
    while found is None:
        found = copies.advance(tasks, now)
    copies.write(*found, _Sent(), lambda task, meta: None)  # type: ignore[arg-type]
    now = time.perf_counter()
    assert not copies.wanted(tasks, now)
    assert copies.wanted(tasks, now + EARLY_SECONDS + EVERY / 10)


class _Sent:
    """Transactions that go through."""

    def begin(self) -> None: ...

    def send(self, out: object, written: object = None) -> None:
        assert callable(written)
        written(3)

    def flush(self) -> None: ...


def test_what_is_taken_counts_until_a_snapshot_is_begun(copies: Copies) -> None:
    task = Keyed(keyed(0).config, LAYOUT, 0, 30.0, 1 << 20)
    user = user_of(0)
    for step in range(3):
        before = task.repeat_seconds
        task.take([event(user, step, step, user)])
        assert task.repeat_seconds > before
    copies.add(task.lead)
    task.sequence = 1
    copies.whole(task).job.release()
    assert task.repeat_seconds == 0.0
    assert copies._keeper.meta(task) == Meta(1, -1)
