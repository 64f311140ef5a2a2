"""How long a task stands still when its worker is killed: 100,000 users of the light tier, two workers, kill -9."""

from __future__ import annotations

import json
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from benchmarks.kafka.stand import PARTITIONS, START, STEP, broker, installed, started, worker
from tests.kafka import Kafka, admin, make_topic, produce

IDS = ("kafka.takeover",)
USERS, ROUNDS = 100_000, 3
SETTLE, SECONDS, SESSION = 30.0, 120.0, 5.0


def _positions(one: Kafka, group: str, topic: str) -> list[int]:
    from confluent_kafka import ConsumerGroupTopicPartitions, TopicPartition

    asked = ConsumerGroupTopicPartitions(group, [TopicPartition(topic, part) for part in range(PARTITIONS)])
    found = admin(one.brokers).list_consumer_group_offsets([asked])[group].result(10)
    return [at.offset for at in found.topic_partitions]


class _Feed:
    """Events of users in turn, a few thousand a second, until told to stop."""

    def __init__(self, one: Kafka, topic: str, first: int) -> None:
        self._one, self._topic, self._number = one, topic, first
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        while not self._stop.wait(0.2):
            produce(self._one.brokers, self._topic, [message(self._number + i) for i in range(1000)])
            self._number += 1000

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()


def message(number: int) -> tuple[bytes, bytes]:
    """An event of one of the users, in turn."""
    step, user = divmod(number, USERS)
    event = {"eventId": f"e{number}", "timestamp": START + STEP * step, "userId": f"u-{user}", "value": number % 7}
    return f"u-{user}".encode(), json.dumps(event).encode()


def _stands_still(one: Kafka, group: str, topic: str) -> float:
    """Seconds until all partitions move on from where they are now."""
    began, before = time.perf_counter(), _positions(one, group, topic)
    while time.perf_counter() < began + SECONDS:
        time.sleep(0.02)
        if all(now > then for now, then in zip(_positions(one, group, topic), before, strict=True)):
            return time.perf_counter() - began
    raise RuntimeError("a partition stands still")


def run() -> list[dict[str, Any]]:
    """A row of the table; none where Kafka is not installed."""
    if not installed():
        return []
    took = []
    with tempfile.TemporaryDirectory() as name, broker(SESSION) as one:
        make_topic(one.brokers, "many", PARTITIONS)
        produce(one.brokers, "many", [message(number) for number in range(3 * USERS)])
        more: dict[str, Any] = {"detectors": [{"deviation": {"tier": "light"}}], "limits": {"series": 2 * USERS}}
        commands = [
            worker(one, Path(name), own, "many", kafka={"group": "pair", "prefix": "pair.", "worker": own}, **more)
            for own in ("a", "b")
        ]
        for number in range(ROUNDS):
            with started(commands[0]) as (first, _), started(commands[1]) as (second, log):
                feed = _Feed(one, "many", (3 + number) * USERS)
                time.sleep(SETTLE)
                if (first.poll(), second.poll()) != (None, None):
                    raise RuntimeError(log())
                first.kill()
                took.append(_stands_still(one, "pair", "many"))
                feed.stop()
    each = ", ".join(f"{one:.1f}" for one in took)
    note = f"the worst of {each} s; the broker's session timeout is {SESSION:g} s; {USERS:,} users, light tier"
    return [{"id": "kafka.takeover", "value": max(took), "unit": "s", "note": note}]
