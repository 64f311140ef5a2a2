"""One recorded stream gives the same alerts embedded and over Kafka, however it is keyed and shared out."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.kafka_rig import TOPIC, by_identity, messages, missing, reference, write_config
from tests.kafka import Kafka, Reader, kafka, make_topic, produce, shared_out, workers
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
