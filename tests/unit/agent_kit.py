"""What tests of agents share: counters looked at, and a Kafka client that does as it is told."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from foreshock.telemetry import REGISTRY


@contextmanager
def counted(name: str, **labels: str) -> Iterator[Callable[[], float]]:
    """How much a counter has grown since."""
    before = REGISTRY.get_sample_value(name, labels) or 0.0
    yield lambda: (REGISTRY.get_sample_value(name, labels) or 0.0) - before


class Error:
    """An error as the client gives it."""

    def __init__(self, name: str) -> None:
        self._name = name

    def name(self) -> str:
        return self._name

    def str(self) -> str:
        return f"{self._name} happened"


class KafkaException(Exception):
    """What the client raises, by its name."""


@dataclass
class Message:
    """A message as delivery reports show it."""

    where: str

    def topic(self) -> str:
        return self.where


@dataclass
class Broker:
    """What all clients of a test send to: what has arrived, and whether it answers."""

    arrived: list[tuple[str, bytes | None, bytes | None, Any, int]] = field(default_factory=list)
    up: bool = True
    errors: deque[str] = field(default_factory=deque)
    """Names of errors that the next messages get in place of being taken."""
    refused: dict[bytes, str] = field(default_factory=dict)
    """Values that the client refuses once, and with which error."""
    room: int = 1_000_000
    clients: int = 0

    def connect(self) -> Client:
        self.clients += 1
        return Client(self)

    @property
    def values(self) -> list[bytes | None]:
        return [value for _, _, value, _, _ in self.arrived]


class Client:
    """Stands in for confluent_kafka.Producer: what it is given arrives in `poll`, while the broker is up."""

    def __init__(self, broker: Broker) -> None:
        self.broker = broker
        self.queue: deque[tuple[Any, ...]] = deque()

    def produce(self, topic: str, value: bytes | None = None, key: bytes | None = None, **more: Any) -> None:
        if len(self.queue) >= self.broker.room:
            raise BufferError("queue full")
        if self.broker.refused.get(value or b""):
            raise KafkaException(Error(self.broker.refused.pop(value or b"")))
        self.queue.append((topic, key, value, more["headers"], more["timestamp"], more["on_delivery"]))

    def poll(self, timeout: float) -> int:
        count = 0
        while self.queue and self.broker.up:
            *message, report = self.queue.popleft()
            error = self.broker.errors.popleft() if self.broker.errors else ""
            if not error:
                self.broker.arrived.append(tuple(message))
            report(Error(error) if error else None, Message(message[0]))
            count += 1
        return count

    def flush(self, timeout: float) -> int:
        self.poll(0)
        return len(self.queue)

    def purge(self, in_queue: bool = True, in_flight: bool = True, blocking: bool = True) -> None:
        self.queue.clear()
