"""From an event's production to its verdict, as a reader of committed messages sees it, at 50,000 events a second.

Users send one event a second each; one event in a thousand is far off, and its verdict goes to the topic of anomalies.
"""

from __future__ import annotations

import json
import random
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.kafka.stand import PARTITIONS, broker, installed, started, worker
from tests.kafka import make_topic

IDS = ("kafka.latency",)
RATE, SLICES = 50_000, 100
WARM_UP, SECONDS = 40, 30
FAR = 0.001


class Users:
    """Sends; remembers when what is far off was sent, by user and second."""

    def __init__(self, brokers: str, topic: str) -> None:
        from confluent_kafka import Producer

        self._producer = Producer({"bootstrap.servers": brokers, "partitioner": "murmur2_random", "linger.ms": 2,
                                   "queue.buffering.max.messages": 1_000_000})  # fmt: skip
        self._topic, self.sent = topic, 0
        self.far: dict[tuple[str, int], float] = {}
        self.behind = 0.0

    def run(self, until: float) -> None:
        """An open loop: a slice of the users every ten milliseconds."""
        rng, each = random.Random(1), RATE // SLICES
        tick = 0
        start = time.time()
        while (due := start + tick / SLICES) < until:
            time.sleep(max(0.0, due - time.time()))
            self.behind = max(self.behind, time.time() - due)
            first = tick % SLICES * each
            for user in range(first, first + each):
                self._send(f"u-{user}", rng)
            self._producer.poll(0)
            tick += 1
        self._producer.flush(10)

    def _send(self, user: str, rng: random.Random) -> None:
        now, far = time.time(), rng.random() < FAR
        if far:
            self.far[user, int(now)] = now
        value = rng.random() + (40.0 if far else 20.0)
        event = f'{{"eventId":"e-{self.sent}","timestamp":{now:.3f},"userId":"{user}","value":{value:.3f}}}'
        self._producer.produce(self._topic, event.encode(), user.encode())
        self.sent += 1


def _read(brokers: str, topic: str, until: float) -> dict[tuple[str, int], float]:
    """When the verdict on each user and second could be read first."""
    from confluent_kafka import Consumer, TopicPartition

    consumer = Consumer({"bootstrap.servers": brokers, "group.id": "reader", "isolation.level": "read_committed",
                         "fetch.wait.max.ms": 5, "enable.auto.commit": False})  # fmt: skip
    parts = consumer.list_topics(topic, timeout=20).topics[topic].partitions
    consumer.assign([TopicPartition(topic, part, 0) for part in parts])
    found: dict[tuple[str, int], float] = {}
    while time.time() < until:
        message = consumer.poll(0.1)
        if message is not None and message.error() is None:
            row = json.loads(message.value() or b"{}")
            user = row["entity"].split('"')[1]
            found.setdefault((user, int(row["time_unix_nano"]) // 10**9), time.time())
    consumer.close()
    return found


def run() -> list[dict[str, Any]]:
    """A row of the table; none where Kafka is not installed."""
    if not installed():
        return []
    with tempfile.TemporaryDirectory() as name, broker() as one:
        make_topic(one.brokers, "live", PARTITIONS)
        quick = {"commit_interval": "20ms", "inputs": [{"topic": "live", "lateness": "2s"}]}
        command = worker(one, Path(name), "fast", "live", stream={"step": "1s"}, kafka=quick,
                         detectors=[{"deviation": {"tier": "light"}}], limits={"series": 100_000})  # fmt: skip
        with started(command) as (process, log):
            time.sleep(10)
            if process.poll() is not None:
                raise RuntimeError(log())
            users = Users(one.brokers, "live")
            start = time.time()
            thread = threading.Thread(target=users.run, args=(start + WARM_UP + SECONDS,))
            thread.start()
            found = _read(one.brokers, "fast.anomalies", start + WARM_UP + SECONDS + 2)
            thread.join()
        late = [found[key] - sent for key, sent in users.far.items() if sent > start + WARM_UP and key in found]
        asked = sum(1 for sent in users.far.values() if sent > start + WARM_UP)
    half, most, all_but = (1e3 * float(np.percentile(late, share)) for share in (50, 95, 99))
    note = (
        f"p95 (p50 {half:.0f}, p99 {all_but:.0f}) of {len(late)} of {asked} verdicts; transactions of 20 ms; "
        f"{users.sent / (WARM_UP + SECONDS):,.0f} events/s, sent at most {1e3 * users.behind:.0f} ms behind"
    )
    return [{"id": "kafka.latency", "value": most, "unit": "ms", "note": note}]
