"""librdkafka's own consumer against a real broker: the same messages as confluent-kafka's, in columns."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from foreshock.adapters.kafka.client import library
from foreshock.adapters.kafka.fetch import Inputs
from foreshock.adapters.kafka.stretch import Stretch
from foreshock.errors import ConfigError
from tests.kafka import Kafka, kafka, make_topic
from tests.services import wait_until

pytestmark = pytest.mark.services
TOPIC, PARTITIONS, EACH = "fetched", 3, 500


def key_of(number: int) -> bytes | None:
    return None if number % 5 == 0 else b"" if number % 7 == 0 else b"k-%d" % number


def value_of(number: int) -> bytes | None:
    return None if number % 50 == 3 else b"v\n" * (number % 9)


def headers_of(number: int) -> list[tuple[str, bytes | None]]:
    return [("a", b"1"), ("a", b""), ("none", None)] if number % 40 == 0 else []


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kafka]:
    with kafka(tmp_path_factory.mktemp("kafka") / "run") as one:
        make_topic(one.brokers, TOPIC, PARTITIONS)
        producer = library().Producer({"bootstrap.servers": one.brokers})
        for number in range(PARTITIONS * EACH):
            producer.produce(
                TOPIC, value_of(number), key_of(number), number % PARTITIONS, headers=headers_of(number),
                timestamp=1_700_000_000_000 + number,
            )  # fmt: skip
        producer.flush(30)
        yield one


def settings(broker: Kafka, **more: Any) -> dict[str, Any]:
    return {
        "bootstrap.servers": broker.brokers, "group.id": "g", "enable.auto.commit": False,
        "enable.partition.eof": True, "auto.offset.reset": "error",
    } | more  # fmt: skip


@pytest.fixture
def inputs(broker: Kafka) -> Iterator[Inputs]:
    one = Inputs(settings(broker), 256)
    yield one
    one.close()


def at(partition: int, offset: int = 0) -> Any:
    return library().TopicPartition(TOPIC, partition, offset)


def read_until(inputs: Inputs, enough: Callable[[list[Stretch]], bool]) -> list[Stretch]:
    found: list[Stretch] = []

    def more() -> bool:
        found.extend(inputs.read(0.2))
        return enough(found)

    wait_until(more, "what was sent", 30.0)
    return found


def ends(found: list[Stretch]) -> int:
    return sum(one.error() is not None and one.error().name() == "_PARTITION_EOF" for s in found for one in s)


def test_the_same_messages_as_confluent_kafka_gives(broker: Kafka, inputs: Inputs) -> None:
    inputs.incremental_assign([at(one) for one in range(PARTITIONS)])
    stretches = read_until(inputs, lambda found: ends(found) == PARTITIONS)
    ours: dict[int, list[tuple[Any, ...]]] = {one: [] for one in range(PARTITIONS)}
    for stretch in stretches:
        assert stretch.at[0] == TOPIC
        ours[stretch.at[1]] += [_shown(one) for one in stretch if one.error() is None]
    assert max(len(stretch) for stretch in stretches) > 20
    other = library().Consumer(settings(broker))
    other.assign([at(one) for one in range(PARTITIONS)])
    theirs: dict[int, list[tuple[Any, ...]]] = {one: [] for one in range(PARTITIONS)}
    while sum(map(len, theirs.values())) < PARTITIONS * EACH:
        for message in other.consume(500, 1.0):
            if message.error() is None:
                theirs[message.partition()].append(_shown(message))
    other.close()
    assert ours == theirs
    assert [len(one) for one in ours.values()] == [EACH] * PARTITIONS


def _shown(one: Any) -> tuple[Any, ...]:
    return (one.topic(), one.partition(), one.offset(), one.key(), one.value(), one.headers(), one.timestamp()[1])


def test_partitions_wait_go_on_and_are_let_go_of(inputs: Inputs) -> None:
    inputs.incremental_assign([at(0, 490), at(1, 10)])
    found = read_until(inputs, lambda found: ends(found) == 2)
    assert min(one.offset() for s in found for one in s if s.at[1] == 0) == 490
    assert inputs.get_watermark_offsets(at(0)) == (0, EACH)
    inputs.pause([at(0)])
    inputs.seek(at(0, 100))
    assert inputs.read(0.5) == []
    inputs.resume([at(0)])
    inputs.seek(at(0, 100))
    found = read_until(inputs, lambda found: ends(found) == 1)
    assert {(s.at[1], s[0].offset()) for s in found[:1]} == {(0, 100)}
    inputs.incremental_unassign([at(0), at(1)])
    inputs.incremental_assign([at(2, 499)])
    found = read_until(inputs, lambda found: ends(found) == 1)
    assert [(s.at[1], one.offset()) for s in found for one in s] == [(2, 499), (2, 500)]


def test_an_offset_that_is_not_there_is_an_error_in_a_message_s_place(inputs: Inputs) -> None:
    inputs.incremental_assign([at(0, 10_000)])
    found = read_until(inputs, bool)
    error = found[0][0].error()
    assert error.name() == "_AUTO_OFFSET_RESET"
    assert not error.fatal()
    assert found[0].at == (TOPIC, 0)


def test_a_wrong_property_and_a_wrong_call_say_what_is_wrong(broker: Kafka, inputs: Inputs) -> None:
    with pytest.raises(ConfigError, match="no_such"):
        Inputs(settings(broker, no_such=1), 8)
    with pytest.raises(ConfigError, match="SASL"):
        Inputs(settings(broker, **{"security.protocol": "sasl_plaintext", "sasl.mechanism": "nothing"}), 8)
    inputs.incremental_assign([at(0)])
    with pytest.raises(library().KafkaException, match="already"):
        inputs.incremental_assign([at(0)])


def test_what_the_library_says_is_logged_and_errors_are_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, broker: Kafka
) -> None:
    told: list[str] = []
    logger = logging.getLogger("test.kafka")
    values = settings(broker, error_cb=lambda error: told.append(error.name()), logger=logger)
    one = Inputs(values | {"bootstrap.servers": "127.0.0.1:1"}, 8)
    with caplog.at_level(logging.INFO, logger.name):
        wait_until(lambda: not one.read(0.1) and bool(told) and bool(caplog.messages), "an error", 20.0)
    one.close()
    one.close()
    assert "_TRANSPORT" in told or "_ALL_BROKERS_DOWN" in told
    assert any("Connect to" in message for message in caplog.messages)
