"""When snapshots of tasks over Kafka are begun."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from foreshock.adapters.kafka.messages import Out
from foreshock.adapters.kafka.options import KafkaOptions
from foreshock.config import Snapshot
from foreshock.runtime.distributed_copies import EARLY_SECONDS, LEAST_BLOCKS, REPEAT_SECONDS, Copies, Writing
from foreshock.runtime.distributed_format import Meta, decode_manifest
from foreshock.runtime.distributed_keyed import Keyed
from foreshock.runtime.distributed_state import Keeper
from foreshock.runtime.distributed_tasks import KafkaTask
from foreshock.state import pack, unpack
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
    return Copies(Snapshot(every=EVERY), Keeper(KafkaOptions(), LAYOUT), 0.02)


def begun(copies: Copies, tasks: dict[tuple[str, int], KafkaTask], now: float) -> KafkaTask | None:
    """The task whose copy is begun, and made whole; None where none is."""
    copies.begin(tasks, now)
    writing = whole(copies, tasks)
    if writing is None:
        return None
    writing.let_go()
    return writing.task


def whole(copies: Copies, tasks: dict[tuple[str, int], KafkaTask]) -> Writing | None:
    """The copy under way, if there is one, once it is to be written."""
    while any(copier.busy for copier in copies._copiers.values()):
        writing = copies.advance(tasks)
        if writing is not None:
            return writing
    return None


def test_each_is_due_after_its_time_and_not_at_once(copies: Copies) -> None:
    tasks, now = tasks_of(copies, 2), time.perf_counter()
    assert begun(copies, tasks, now) is None
    names = [task.name for _ in range(2) if (task := begun(copies, tasks, now + EVERY)) is not None]
    assert sorted(names) == ["keyed-0", "keyed-1"]
    assert begun(copies, tasks, now + 1) is None


def test_one_is_copied_at_a_time(copies: Copies) -> None:
    tasks, now = tasks_of(copies, 2), time.perf_counter()
    for _ in range(3):
        copies.begin(tasks, now + EVERY)
    assert sum(copier.busy for copier in copies._copiers.values()) == 1


def test_that_with_most_to_repeat_comes_first_and_early(copies: Copies) -> None:
    tasks, now = tasks_of(copies, 3), time.perf_counter()
    some = REPEAT_SECONDS / 2
    for task, seconds in zip(tasks.values(), (some, 4 * some, 6 * some), strict=True):
        task.repeat_seconds = seconds
    names = [task and task.name for task in (begun(copies, tasks, now) for _ in range(3))]
    assert names == ["keyed-2", "keyed-1", None]
    assert [task.repeat_seconds for task in tasks.values()] == [some, 0.0, 0.0]


def test_a_task_that_has_committed_nothing_is_not_copied(copies: Copies) -> None:
    tasks, now = tasks_of(copies, 1), time.perf_counter()
    for task in tasks.values():
        task.sequence, task.repeat_seconds = 0, 5.0
    assert begun(copies, tasks, now + EVERY) is None


def test_early_ones_take_their_share_of_the_time(copies: Copies) -> None:
    tasks, now = tasks_of(copies, 2), time.perf_counter()
    for task in tasks.values():
        task.repeat_seconds = REPEAT_SECONDS
    copies.begin(tasks, now)
    writing = whole(copies, tasks)
    assert writing is not None
    copies.written(writing)
    now = time.perf_counter()
    assert begun(copies, tasks, now) is None
    assert begun(copies, tasks, now + EARLY_SECONDS + EVERY / 10) is not None


class Log:
    """What transactions wrote, in order; told where only when they are flushed, as a producer does."""

    def __init__(self) -> None:
        self.sent: list[Out] = []
        self._untold: list[tuple[Callable[[int], None], int]] = []

    def send(self, out: Out, written: Callable[[int], None]) -> None:
        self._untold.append((written, len(self.sent)))
        self.sent.append(out)

    def flush(self) -> None:
        for written, offset in self._untold:
            written(offset)
        self._untold = []


def test_a_snapshot_goes_with_transactions_some_blocks_with_each_and_is_read_as_it_was(copies: Copies) -> None:
    [task], log, sizes = tasks_of(copies, 1).values(), Log(), []
    task.take([event(user_of(0), step, step, user_of(0)) for step in range(30)])
    task.run()
    copies.begin({task.lead: task}, time.perf_counter() + EVERY)
    saved = {name: pack(state) for name, state in task.states().items()}
    task.take([event(user_of(0), step, step, user_of(0)) for step in range(30, 60)])
    writing = whole(copies, {task.lead: task})
    assert writing is not None
    while True:
        before = len(log.sent)
        writing.ride(log.send)
        known = [writing.written]
        log.flush()
        known.append(writing.written)
        sizes.append(len(log.sent) - before)
        assert known == [False, True], "nobody has said where it stands until it is flushed"
        if writing.arrived():
            break
    assert sizes[-1] == 1
    assert all(size == LEAST_BLOCKS for size in sizes[:-2])
    manifest = decode_manifest(log.sent[-1].value or b"")
    blocks = {part.name: b"".join(log.sent[at].value or b"" for at, _ in part.blocks) for part in manifest.parts}
    assert manifest.sequence == task.sequence == 2
    assert {name: pack(unpack(data)) for name, data in blocks.items()} == saved
    assert copies._keeper.meta(task) == Meta(2, len(log.sent) - 1)


def test_what_is_taken_counts_until_a_snapshot_is_begun(copies: Copies) -> None:
    task = Keyed(keyed(0).config, LAYOUT, 0, 30.0, 1 << 20)
    user = user_of(0)
    for step in range(3):
        before = task.repeat_seconds
        task.take([event(user, step, step, user)])
        assert task.repeat_seconds > before
    copies.add(task.lead)
    task.sequence = 1
    copies.whole(task).let_go()
    assert task.repeat_seconds == 0.0
    assert copies._keeper.meta(task) == Meta(1, -1)
