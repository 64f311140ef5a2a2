"""A broker on one core, whoever is measured on the other, and how far it has committed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from tests.kafka import JARS, Kafka, admin, held, kafka, make_topic, produce, shared_out
from tests.services import wait_until

START, STEP = 1_700_000_000, 10
PARTITIONS = 6
BROKER_CORE, WORKER_CORE = 0, 1
FROM, TO = 0.2, 0.95
"""The part of the events over which speed is taken: neither the start of a process counts nor its end."""
BEFORE = 0.1
"""The part that workers have taken before all others come at once: what they need is compiled and loaded then."""
SECONDS = 240.0
Message = tuple[bytes | None, bytes]


@dataclass(frozen=True, slots=True)
class Pace:
    """Events a second by the clock; CPU seconds for a million, of the one measured and of the broker."""

    events_a_second: float
    cpu: float
    broker_cpu: float


def installed() -> bool:
    """Whether there is a Kafka to measure on."""
    return JARS.exists()


@contextmanager
def broker(session_seconds: float = 2.0) -> Iterator[Kafka]:
    """One broker, kept to its core where there are two; after so long a worker that is not heard of is replaced."""
    with (
        tempfile.TemporaryDirectory() as folder,
        kafka(Path(folder) / "run", session_ms=round(session_seconds * 1000)) as one,
    ):
        pin(one.pid(1), BROKER_CORE)
        yield one


def pin(pid: int, core: int) -> None:
    """Keep a process and all its threads to a core, if this machine has it."""
    if core < (os.cpu_count() or 1):
        subprocess.run(["taskset", "-a", "-p", "-c", str(core), str(pid)], check=True, capture_output=True)


def events(count: int, entities: int, keyed: bool) -> list[Message]:
    """JSON events of users in turn, one a message, a step of ten seconds each round; one in 10,000 is far off."""
    rng = np.random.default_rng(3)
    values = rng.normal(20.0, 1.0, count)
    values[rng.random(count) < 1e-4] += 40.0
    out: list[Message] = []
    for number, value in enumerate(values.tolist()):
        step, user = divmod(number, entities)
        event = {"eventId": f"e{number}", "timestamp": START + STEP * step, "userId": f"u-{user}", "value": value}
        out.append((f"u-{user}".encode() if keyed else None, json.dumps(event).encode()))
    return out


def fill(one: Kafka, topic: str, messages: Sequence[Message]) -> None:
    """A topic that holds all of it."""
    make_topic(one.brokers, topic, PARTITIONS)
    produce(one.brokers, topic, messages, PARTITIONS)


def committed(one: Kafka, group: str, topic: str) -> int:
    """How many messages a group has committed."""
    from confluent_kafka import ConsumerGroupTopicPartitions, KafkaException, TopicPartition

    asked = [TopicPartition(topic, partition) for partition in range(PARTITIONS)]
    wanted = ConsumerGroupTopicPartitions(group, asked)
    try:
        found = admin(one.brokers).list_consumer_group_offsets([wanted])[group].result(10)
    except KafkaException:
        return 0
    return sum(max(0, at.offset) for at in found.topic_partitions)


def cpu_of(pid: int) -> float:
    """CPU seconds of a process and its children."""
    own = psutil.Process(pid)
    return float(sum(sum(each.cpu_times()[:2]) for each in (own, *own.children(recursive=True))))


def pace(one: Kafka, command: Sequence[str], group: str, topic: str, messages: int, each: int = 1) -> Pace:
    """Run a command until it has committed `messages` messages of a topic, of `each` events, and time its middle part.

    Raises RuntimeError where it does not come that far within four minutes.
    """
    with started(command) as (process, log):
        return _timed(one, [process], log, group, topic, messages, each)


def pace_of(one: Kafka, commands: Sequence[Sequence[str]], group: str, topic: str, messages: Sequence[Message]) -> Pace:
    """The same of several workers on one core, which share the tasks and have taken some messages when all others come
    at once."""
    some = int(BEFORE * len(messages))
    fill(one, topic, messages[:some])
    let_go = held(one.brokers, topic, messages[some:])
    with ExitStack() as stack:
        running = [stack.enter_context(started(command)) for command in commands]
        wait_until(lambda: len(shared_out(one.brokers, group)) == len(commands), "the tasks are not shared", 60.0)
        wait_until(lambda: committed(one, group, topic) >= some, "the first messages are not taken", 60.0)
        let_go()
        return _timed(one, [process for process, _ in running], running[0][1], group, topic, len(messages), 1)


def _timed(
    one: Kafka, processes: Sequence[subprocess.Popen[bytes]], log: Callable[[], str], group: str, topic: str,
    messages: int, each: int,
) -> Pace:  # fmt: skip
    first: tuple[int, float, float, float] | None = None
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline and all(process.poll() is None for process in processes):
        done = committed(one, group, topic)
        now = done, time.perf_counter(), sum(cpu_of(process.pid) for process in processes), cpu_of(one.pid(1))
        if first is None and done >= FROM * messages:
            first = now
        if first is not None and done >= TO * messages:
            count = (done - first[0]) * each
            return Pace(count / (now[1] - first[1]), (now[2] - first[2]) * 1e6 / count,
                        (now[3] - first[3]) * 1e6 / count)  # fmt: skip
        time.sleep(0.02)
    raise RuntimeError(f"{topic}: {log()}")


@contextmanager
def started(
    command: Sequence[str], core: int = WORKER_CORE
) -> Iterator[tuple[subprocess.Popen[bytes], Callable[[], str]]]:
    """A command on its core, and what it has written; it is killed at the end."""
    with tempfile.NamedTemporaryFile() as log:
        pinned = ["taskset", "-c", str(core), *command] if core < (os.cpu_count() or 1) else list(command)
        process = subprocess.Popen(pinned, stdout=log, stderr=log)
        try:
            yield process, lambda: Path(log.name).read_text(errors="replace")[-2000:]
        finally:
            process.kill()
            process.wait()


def worker(one: Kafka, folder: Path, name: str, topic: str, **more: Any) -> list[str]:
    """The command of a worker, `more` beside its own settings (`detectors`, `kafka`)."""
    own = {"brokers": one.brokers, "prefix": f"{name}.", "group": name, "worker": name, "inputs": [topic]}
    settings = {"stream": {"step": f"{STEP}s"}} | more | {"kafka": own | more.get("kafka", {})}
    path = folder / f"{name}-{settings['kafka']['worker']}.yaml"
    path.write_text(json.dumps(settings))
    return [sys.executable, "-m", "foreshock", "worker", str(path)]
