"""What a restore reads from a real broker, and that it can be stopped."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from foreshock.adapters.kafka.options import KafkaOptions
from foreshock.errors import RetryableError
from foreshock.runtime.distributed_cursors import Cursors
from foreshock.runtime.distributed_state import Keeper
from tests.integration.test_kafka_worker import config_of, delete, running
from tests.kafka import Kafka, kafka, make_topic, produce
from tests.services import wait_until

pytestmark = pytest.mark.services
PARTITIONS, EACH = 3, 4000


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kafka]:
    with kafka(tmp_path_factory.mktemp("kafka") / "run") as one:
        yield one


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """All consumers that cursors have made."""
    out: list[Any] = []
    make = Cursors._made

    def noted(self: Cursors) -> Any:
        out.append(make(self))
        return out[-1]

    monkeypatch.setattr(Cursors, "_made", noted)
    return out


@pytest.fixture
def cursors(broker: Kafka) -> Iterator[Cursors]:
    one = Cursors(KafkaOptions(brokers=broker.brokers))
    yield one
    one.close()


def fill(broker: Kafka, topic: str) -> None:
    make_topic(broker.brokers, topic, PARTITIONS)
    produce(broker.brokers, topic, [(None, b"%d" % i) for i in range(PARTITIONS * EACH)], PARTITIONS)


def wanted(partition: int, first: int, last: int) -> list[bytes]:
    return [b"%d" % (PARTITIONS * offset + partition) for offset in range(first, last)]


def values(messages: Sequence[Any]) -> list[bytes]:
    return [message.value() for message in messages]


def test_one_consumer_reads_any_partition_from_any_offset(broker: Kafka, cursors: Cursors, made: list[Any]) -> None:
    fill(broker, "any")
    rng = random.Random(5)
    for _ in range(200):
        partition, first = rng.randrange(PARTITIONS), rng.randrange(EACH)
        middle = rng.randrange(first, EACH)
        with cursors.at("any", partition, first) as cursor:
            assert values(cursor.until(middle)) == wanted(partition, first, middle)
            if rng.random() < 0.3:
                assert values(list(cursor.rest(lambda one: False))) == wanted(partition, middle, EACH)
    assert len(made) == 1


def test_cursors_that_are_open_at_once_do_not_meet(broker: Kafka, cursors: Cursors, made: list[Any]) -> None:
    fill(broker, "both")
    for _ in range(3):
        with cursors.at("both", 0, 10) as first, cursors.at("both", 1, 20) as second:
            assert values(first.until(30)) == wanted(0, 10, 30)
            assert values(second.until(30)) == wanted(1, 20, 30)
            assert values(first.until(EACH)) == wanted(0, 30, EACH)
    assert len(made) == 2


def test_a_consumer_that_met_trouble_is_not_used_again(broker: Kafka, cursors: Cursors, made: list[Any]) -> None:
    fill(broker, "trouble")
    for count in (1, 2):
        with suppress(RetryableError), cursors.at("trouble", 0, 0):
            raise RetryableError("no answer")
        assert len(made) == count


def test_what_is_gone_is_left_out_and_counted(
    broker: Kafka, cursors: Cursors, caplog: pytest.LogCaptureFixture
) -> None:
    fill(broker, "gone")
    delete(broker, "gone", {0: 100})
    with cursors.at("gone", 0, 50) as cursor:
        cursor.say_lost()
        assert "offsets 50 to 100 are gone" in caplog.text
        assert cursor.until(80) == []
        assert values(cursor.until(110)) == wanted(0, 100, 110)


def test_a_restore_that_is_told_to_stop_stops(
    broker: Kafka, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """All but one task cannot be read; they are tried again until the worker is told to stop."""
    make_topic(broker.brokers, "stop.anomaly-events", 6)
    restored: list[str] = []

    def restore(self: Keeper, task: Any, fresh: Any, meta: Any) -> Any:
        if restored:
            raise RetryableError("no answer")
        restored.append(task.name)
        return fresh()

    monkeypatch.setattr(Keeper, "restore", restore)
    with running(config_of(tmp_path, broker, "stop.")) as worker:
        wait_until(lambda: caplog.text.count("cannot be brought back yet") > 1, "it is not tried again", 30.0)
        assert [task.name for task in worker.tasks.values()] == restored
        worker._stop.set()
