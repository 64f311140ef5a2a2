"""One recorded stream gives the same alerts embedded and over Kafka, however it is keyed and shared out."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from foreshock.adapters.kafka.keys import partition_of
from tests.integration.kafka_rig import TOPIC, by_identity, messages, missing, reference, write_config
from tests.kafka import Kafka, Reader, held, kafka, make_topic, produce, shared_out, workers
from tests.services import wait_until

pytestmark = pytest.mark.services
STEPS = 500
PARTITIONS = 6
SECONDS = 120.0


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kafka]:
    with kafka(tmp_path_factory.mktemp("kafka") / "run") as one:
        yield one


@pytest.mark.parametrize("keyed", [False, True], ids=["null-keys", "keyed"])
@pytest.mark.parametrize("count", [1, 3])
def test_same_alerts_as_embedded(broker: Kafka, tmp_path: Path, count: int, keyed: bool) -> None:
    wanted = reference(STEPS)
    assert sum(alert["status"] == "firing" for alert in wanted.values()) >= 20
    name = f"t{count}{'k' if keyed else 'n'}."
    topic = name + TOPIC
    make_topic(broker.brokers, topic, PARTITIONS)
    stream = messages(range(STEPS), keyed)
    # One worker finds all of it there; three share the work first, and are given it faster than it happened.
    if count == 1:
        produce(broker.brokers, topic, stream, PARTITIONS)
    config = write_config(
        tmp_path, broker.brokers, prefix=name, group=name, inputs=[{"topic": topic, "lateness": "5s"}]
    )
    with workers(config, tmp_path, *(f"w{i}" for i in range(count))) as running:
        wait_until(lambda: len(shared_out(broker.brokers, name)) == count, "the workers do not start", SECONDS)
        if count > 1:
            produce(broker.brokers, topic, stream, PARTITIONS)
        reader = Reader(broker.brokers, name + "alerts")
        wait_until(lambda: not missing(reader, wanted, STEPS), f"alerts are missing: see {tmp_path}", SECONDS)
        assert all(one.stop() == 0 for one in running.values())
    assert by_identity(reader.json(2.0), STEPS) == wanted
    reader.close()


def test_what_a_transaction_holds_back_is_waited_for(broker: Kafka, tmp_path: Path) -> None:
    """Events that were written before others and can be read long after them, for their transaction was still open."""
    wanted, topic = reference(STEPS), "held." + TOPIC
    make_topic(broker.brokers, topic, PARTITIONS)
    stream = [(partition_of(key or b"", PARTITIONS), key, value) for key, value in messages(range(STEPS), keyed=True)]
    begun = stream[: len(stream) // 5]
    produce(broker.brokers, topic, [(key, value) for _, key, value in begun], PARTITIONS)
    commits = [
        held(broker.brokers, topic, [(key, value) for at, key, value in stream[len(begun) :] if at % 2 == half])
        for half in (0, 1)
    ]
    config = write_config(
        tmp_path, broker.brokers, prefix="held.", group="held", inputs=[{"topic": topic, "lateness": "5s"}]
    )
    with workers(config, tmp_path, "w0"):
        wait_until(lambda: len(shared_out(broker.brokers, "held")) == 1, "the worker does not start", SECONDS)
        reader = Reader(broker.brokers, "held.alerts")
        for commit in commits:
            time.sleep(4.0)  # brokers are asked for ends, and marks say what they answered
            commit()
        wait_until(lambda: not missing(reader, wanted, STEPS), f"alerts are missing: see {tmp_path}", SECONDS)
    assert by_identity(reader.json(2.0), STEPS) == wanted
    reader.close()
