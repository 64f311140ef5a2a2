"""The client that an agent sends with, once what it needs is there."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from foreshock.adapters.kafka.client import make, producer_settings
from foreshock.adapters.kafka.options import KafkaOptions
from foreshock.adapters.kafka.topics import INPUT_PARTITIONS, Topic, ensure
from foreshock.agent.forward import Client

_MEMORY_KIB = 32 << 10
_ASK_SECONDS = 3.0


def connector(options: KafkaOptions, topics: Sequence[Topic]) -> Callable[[], Client]:
    """Makes an idempotent producer; before it, topics that are missing, where that is allowed.

    What it makes waits for Kafka for as long as it takes: the buffer on disk is what is bounded. Raises ConfigError at
    once where a property is wrong; what `connect` raises later is a reason to wait.
    """

    def producer() -> Client:
        client: Client = make(
            "Producer",
            producer_settings(
                options,
                message_timeout_ms=0,
                queue_buffering_max_kbytes=_MEMORY_KIB,
                queue_buffering_max_messages=1_000_000,
            ),
        )
        return client

    def connect() -> Client:
        ensure(options, topics, _ASK_SECONDS)
        return producer()

    producer()
    return connect


def inputs(*names: str) -> list[Topic]:
    """Topics that telemetry comes in by, as they are made where they are missing."""
    return [Topic(name, INPUT_PARTITIONS) for name in dict.fromkeys(names)]
