"""A worker on a real broker: events judged a second of CPU, topic pre-filled, one JSON event a message.

The broker is started by scripts/services.sh; its CPU is told apart. Wall-clock rates only mean something where the
broker has a core of its own.
"""

from __future__ import annotations

import json
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil

IDS = ("kafka.keyed.json", "kafka.rekeyed.json")
EVENTS, ENTITIES, STEP = 200_000, 1000, 10
START = 1_700_000_000
SECONDS = 600.0


def _messages(keyed: bool) -> list[tuple[bytes | None, bytes]]:
    rng = np.random.default_rng(3)
    out = []
    for number, value in enumerate(rng.normal(20.0, 1.0, EVENTS).tolist()):
        step, user = divmod(number, ENTITIES)
        event = {"eventId": f"e{number}", "timestamp": START + STEP * step, "userId": f"u-{user}", "value": value}
        out.append((f"u-{user}".encode() if keyed else None, json.dumps(event).encode()))
    return out


def _measure(broker: Any, name: str, keyed: bool) -> dict[str, float]:
    """CPU seconds of this process while it judges all, of the broker meanwhile, and seconds by the clock."""
    from foreshock.config import load
    from foreshock.runtime.clock import SystemClock
    from foreshock.runtime.distributed import Worker
    from foreshock.runtime.warm import warm
    from foreshock.telemetry import EVENTS as TAKEN
    from tests.kafka import make_topic, produce

    topic = name + "events"
    make_topic(broker.brokers, topic, 6)
    produce(broker.brokers, topic, _messages(keyed), 6)
    config = load(
        [],
        environ={},
        overrides={
            "kafka": {"brokers": broker.brokers, "prefix": name, "group": name, "worker": name, "inputs": [topic]},
            "stream": {"step": STEP},
            "detectors": ["zscore"],
        },
    )
    warm(config)
    stop, process = threading.Event(), psutil.Process(broker.pid(1))
    worker = Worker(config, SystemClock(), stop)
    own, theirs, began = time.process_time(), sum(process.cpu_times()[:2]), time.perf_counter()
    thread = threading.Thread(target=worker.run)
    thread.start()
    deadline = time.monotonic() + SECONDS
    while TAKEN.labels(topic)._value.get() < EVENTS and time.monotonic() < deadline:
        time.sleep(0.01)
    taken = TAKEN.labels(topic)._value.get()
    out = {
        "events": taken,
        "cpu": time.process_time() - own,
        "broker": sum(process.cpu_times()[:2]) - theirs,
        "seconds": time.perf_counter() - began,
    }
    stop.set()
    thread.join(60)
    return out


def run() -> list[dict[str, Any]]:
    """Rows of the table; none where Kafka is not installed."""
    from tests.kafka import JARS, kafka

    if not JARS.exists():
        return []
    rows = []
    with tempfile.TemporaryDirectory() as folder, kafka(Path(folder) / "run") as broker:
        for what, keyed in (("keyed", True), ("rekeyed", False)):
            found = _measure(broker, f"{what}.", keyed)
            million = found["events"] / 1e6
            rows.append(
                {
                    "id": f"kafka.{what}.json",
                    "value": found["cpu"] / million,
                    "unit": "s/Mevent",
                    "note": f"CPU of the worker, zscore, {ENTITIES:,} entities, one event a message; broker "
                    f"{found['broker'] / million:.3g} s/Mevent; {found['events'] / found['seconds']:,.0f} events/s",
                }
            )
    return rows
