"""From an event's production to its verdict, as a reader of committed messages sees it: in transactions of 20 ms, or at
least once, before that of what brought it (then they are of 100 ms).

An open loop: each user has an event a second at its own moment, whatever the worker does, and the time of an event is
the moment at which it is due: that it was sent late counts. One in a hundred or a thousand is far off, and its verdict
goes to the topic of anomalies. Who sends is a process of its own.
"""

from __future__ import annotations

import json
import multiprocessing
import random
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.kafka.stand import PARTITIONS, broker, cpu_of, installed, started, worker
from tests.kafka import Kafka, make_topic

WALK, RUN = 833, 50_000
ONCE, LEAST = {"commit_interval": "20ms"}, {"verdicts": "at_least_once"}
ROWS = {
    "kafka.latency.walk": (WALK, PARTITIONS, ONCE),
    "kafka.latency.run": (RUN, PARTITIONS, ONCE),
    "kafka.latency.run_in_one": (RUN, 1, ONCE),
    "kafka.latency.least": (RUN, PARTITIONS, LEAST),
    "kafka.latency.least_in_one": (RUN, 1, LEAST),
}
"""By row: events a second, partitions, settings."""
IDS = tuple(ROWS)
SLICES = 100
START_UP, WARM_UP, SECONDS = 10, 30, 20
Found = dict[tuple[str, int], float]


def send(brokers: str, topic: str, rate: int, until: float, answer: Any) -> None:
    """Send `rate` events a second, a slice of the users every ten milliseconds; `answer` is told what was far off."""
    from confluent_kafka import Producer

    producer = Producer({"bootstrap.servers": brokers, "partitioner": "murmur2_random", "linger.ms": 1,
                         "queue.buffering.max.messages": 1_000_000})  # fmt: skip
    rng, far = random.Random(1), {}
    share, number, tick, behind, start = min(0.01, 50 / rate), 0, 0, 0.0, int(time.time())
    while (due := start + tick / SLICES) < until:
        time.sleep(max(0.0, due - time.time()))
        behind = max(behind, time.time() - due)
        step, part = divmod(tick, SLICES)
        when = f"{start + step}.{part:02}"
        for user in range(rate * part // SLICES, rate * (part + 1) // SLICES):
            value = 20.0 + rng.random()
            if step > 5 and rng.random() < share:
                far[f"u-{user}", start + step], value = due, value + 20.0
            event = f'{{"eventId":"e-{number}","timestamp":{when},"userId":"u-{user}","value":{value:.3f}}}'
            producer.produce(topic, event.encode(), f"u-{user}".encode())
            number += 1
        producer.poll(0)
        tick += 1
    producer.flush(10)
    answer.put((far, number / (until - start), behind))


def read(brokers: str, topic: str, until: float) -> Found:
    """When the verdict on each user and second could be read first."""
    from confluent_kafka import Consumer, TopicPartition

    consumer = Consumer({"bootstrap.servers": brokers, "group.id": "reader", "isolation.level": "read_committed",
                         "fetch.wait.max.ms": 100, "enable.auto.commit": False})  # fmt: skip
    parts = consumer.list_topics(topic, timeout=20).topics[topic].partitions
    consumer.assign([TopicPartition(topic, part, 0) for part in parts])
    found: Found = {}
    while time.time() < until:
        message = consumer.poll(0.1)
        if message is not None and message.error() is None:
            now, row = time.time(), json.loads(message.value() or b"{}")
            found.setdefault((row["entity"].split('"')[1], int(row["time_unix_nano"]) // 10**9), now)
    consumer.close()
    return found


def _row(one: Kafka, folder: Path, name: str) -> dict[str, Any]:
    own, (rate, partitions, more) = name.rpartition(".")[2], ROWS[name]
    make_topic(one.brokers, own, partitions)
    inputs = [{"topic": own, "lateness": "2s", "content_type": "application/json"}]
    command = worker(one, folder, f"{own}-w", own, stream={"step": "1s"}, limits={"series": 2 * rate + 1000},
                     detectors=[{"deviation": {"tier": "light"}}, {"static_threshold": {"above": 30}}],
                     kafka={"inputs": inputs} | more)  # fmt: skip
    with started(command) as (process, log):
        time.sleep(START_UP)
        if process.poll() is not None:
            raise RuntimeError(log())
        start = time.time()
        context, until = multiprocessing.get_context("spawn"), start + WARM_UP + SECONDS
        answer = context.Queue()
        sender = context.Process(target=send, args=(one.brokers, own, rate, until, answer))
        sender.start()
        before = cpu_of(process.pid)
        found = read(one.brokers, f"{own}-w.anomalies", until + 3)
        cpu = cpu_of(process.pid) - before
        far, sent, behind = answer.get(timeout=60)
        sender.join(10)
        said = log()
    asked = {key: at for key, at in far.items() if at > start + WARM_UP}
    took = [1e3 * (found[key] - at) for key, at in asked.items() if key in found]
    if not took:
        raise RuntimeError(f"{own}: no verdict on {len(asked)} events that were far off, {len(found)} others\n{said}")
    half, most, all_but = (float(np.percentile(took, share)) for share in (50, 95, 99))
    note = (
        f"p95 (p50 {half:.0f}, p99 {all_but:.0f}) of {len(took)} of {len(asked)} verdicts; {sent:,.0f} events/s, sent "
        f"at most {1e3 * behind:.0f} ms behind; the worker took {cpu / (until + 3 - start):.0%} of a core"
    )
    return {"id": name, "value": most, "unit": "ms", "note": note}


def run() -> list[dict[str, Any]]:
    """Rows of the table; none where Kafka is not installed."""
    if not installed():
        return []
    with tempfile.TemporaryDirectory() as name, broker() as one:
        return [_row(one, Path(name), own) for own in IDS]
