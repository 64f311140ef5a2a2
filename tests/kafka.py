"""Real Kafka brokers for tests, started by scripts/services.sh; workers as processes; plain readers of topics."""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from tests.proxy import Proxy
from tests.services import wait_until

ROOT = Path(__file__).parents[1]
SCRIPT = ROOT / "scripts" / "services.sh"
JARS = ROOT / ".services" / "kafka" / "lib"
START_SECONDS = 120.0


def free_base() -> int:
    """A port such that it and the seventy behind it are free."""
    while True:
        base = random.randrange(20_000, 50_000, 100)
        with suppress(OSError):
            for port in range(base, base + 70):
                with socket.socket() as one:
                    one.bind(("127.0.0.1", port))
            return base


@dataclass
class Kafka:
    """Brokers of its own in a folder."""

    folder: Path
    nodes: int = 1
    session_ms: int = 2000
    proxied: bool = False
    port: int = field(default_factory=free_base)
    proxies: list[Proxy] = field(default_factory=list)

    @property
    def through(self) -> str:
        """The brokers as seen through proxies that can be cut."""
        return ",".join(f"127.0.0.1:{self.port + 61 + i}" for i in range(self.nodes))

    @property
    def brokers(self) -> str:
        return ",".join(f"127.0.0.1:{self.port + i}" for i in range(self.nodes))

    def start(self) -> None:
        if not JARS.exists():
            pytest.fail("Kafka is not installed: run scripts/services.sh install", pytrace=False)
        self._script("up", "kafka", "--nodes", str(self.nodes))
        if self.proxied:
            ports = range(self.port + 41, self.port + 41 + self.nodes)
            self.proxies = [Proxy(port + 20, port) for port in ports]

    def stop(self) -> None:
        for proxy in self.proxies:
            proxy.close()
        self._script("down")

    def kill(self, node: int) -> None:
        """kill -9 a broker."""
        pid = self.pid(node)
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: not is_alive(pid), "the broker does not die")

    def start_again(self, node: int) -> None:
        self._script("start", "kafka", "--node", str(node))

    def pid(self, node: int) -> int:
        return int((self.folder / f"node-{node}" / "pid").read_text())

    def _script(self, *arguments: str) -> None:
        own = {"KAFKA_DIR": str(self.folder), "KAFKA_PORT": str(self.port), "KAFKA_SESSION_MS": str(self.session_ms)}
        if self.proxied:
            own["KAFKA_PROXY"] = "yes"
        done = subprocess.run(
            ["bash", str(SCRIPT), *arguments], env=os.environ | own, capture_output=True, text=True,
            timeout=START_SECONDS,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr


def is_alive(pid: int) -> bool:
    """Whether a process is there and no zombie."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


@contextmanager
def kafka(folder: Path, nodes: int = 1, session_ms: int = 2000, proxied: bool = False) -> Iterator[Kafka]:
    """Running brokers."""
    one = Kafka(folder, nodes, session_ms, proxied)
    try:
        one.start()
        yield one
    finally:
        one.stop()


@cache
def admin(brokers: str) -> Any:
    """An admin client, kept: making and dropping many of them stalls."""
    from confluent_kafka.admin import AdminClient

    return AdminClient({"bootstrap.servers": brokers})


def shared_out(brokers: str, group: str) -> dict[str, int]:
    """How many tasks each member of a group has."""
    from confluent_kafka import KafkaException

    try:
        members = admin(brokers).describe_consumer_groups([group])[group].result(30).members
    except KafkaException:
        return {}
    return {one.member_id: len(one.assignment.topic_partitions) for one in members if one.assignment.topic_partitions}


def make_topic(brokers: str, name: str, partitions: int, copies: int = 1, **config: str) -> None:
    """A topic, ready to be written to."""
    kafka_admin: Any = import_module("confluent_kafka.admin")
    settings = {key.replace("_", "."): value for key, value in config.items()}
    new = kafka_admin.NewTopic(name, partitions, copies, config=settings)
    admin(brokers).create_topics([new])[name].result(30)
    wait_until(lambda: name in admin(brokers).list_topics(timeout=10).topics, f"topic {name} does not come")


def produce(brokers: str, topic: str, messages: Sequence[tuple[bytes | None, bytes]], partitions: int = 0) -> None:
    """Write (key, value) messages; null keys go round the `partitions`, others where Java's clients put them."""
    from confluent_kafka import Producer

    producer = Producer({"bootstrap.servers": brokers, "partitioner": "murmur2_random", "linger.ms": 20})
    _send(producer, topic, messages, partitions)


def held(brokers: str, topic: str, messages: Sequence[tuple[bytes | None, bytes]]) -> Callable[[], None]:
    """Write keyed messages that nobody who reads what is committed sees until this is called."""
    from confluent_kafka import Producer

    producer = Producer(
        {
            "bootstrap.servers": brokers,
            "partitioner": "murmur2_random",
            "transactional.id": f"held-{random.random()}",
            "transaction.timeout.ms": 300_000,
        }
    )
    producer.init_transactions(30)
    producer.begin_transaction()
    _send(producer, topic, messages, 0)
    return lambda: producer.commit_transaction(60)


def _send(producer: Any, topic: str, messages: Sequence[tuple[bytes | None, bytes]], partitions: int) -> None:
    for number, (key, value) in enumerate(messages):
        where: dict[str, Any] = {"partition": number % partitions} if key is None and partitions else {}
        while True:
            try:
                producer.produce(topic, value, key, **where)
                break
            except BufferError:
                producer.poll(0.1)
        producer.poll(0)
    assert producer.flush(120) == 0


class Reader:
    """Reads all of a topic, committed messages only, as any consumer would."""

    def __init__(self, brokers: str, topic: str, isolation: str = "read_committed") -> None:
        from confluent_kafka import Consumer, TopicPartition

        self._consumer = Consumer(
            {
                "bootstrap.servers": brokers,
                "group.id": f"reader-{random.random()}",
                "isolation.level": isolation,
                "auto.offset.reset": "earliest",
                "enable.auto.commit": False,
                "allow.auto.create.topics": False,
            }
        )
        known = self._consumer.list_topics(topic, timeout=20).topics[topic]
        self._consumer.assign([TopicPartition(topic, one, 0) for one in known.partitions])
        self.messages: list[Any] = []

    def read(self, seconds: float = 0.2) -> list[Any]:
        """All that has come so far."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            for message in self._consumer.consume(1000, 0.05):
                if message.error() is None:
                    self.messages.append(message)
        return self.messages

    def json(self, seconds: float = 0.2) -> list[dict[str, Any]]:
        return [json.loads(message.value()) for message in self.read(seconds)]

    def close(self) -> None:
        self._consumer.close()


@dataclass
class Worker:
    """`foreshock worker` as a process."""

    name: str
    config: Path
    folder: Path
    process: subprocess.Popen[bytes] | None = None

    @property
    def log(self) -> Path:
        return self.folder / f"{self.name}.log"

    def start(self) -> Worker:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "foreshock", "worker", str(self.config), "--name", self.name],
                stdout=log, stderr=log, cwd=self.folder,
            )  # fmt: skip
        return self

    def send(self, number: signal.Signals) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def kill(self) -> None:
        """kill -9."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        """SIGTERM, and its exit code."""
        assert self.process is not None
        self.process.terminate()
        return self.process.wait(60)

    def text(self) -> str:
        return self.log.read_text() if self.log.exists() else ""


@contextmanager
def workers(config: Path, folder: Path, *names: str) -> Iterator[dict[str, Worker]]:
    """Running workers; what is left of them is killed at the end."""
    running = {name: Worker(name, config, folder).start() for name in names}
    try:
        yield running
    finally:
        for one in running.values():
            if one.process is not None and one.process.poll() is None:
                one.process.kill()
                one.process.wait()
