"""Dead letters: messages that can never be used go to `<topic>.dlq`, as they came and with the reason."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from foreshock.adapters.kafka.messages import Out
from foreshock.telemetry import DEAD_LETTERS

SUFFIX = ".dlq"
REASON, ERROR = "foreshock-reason", "foreshock-error"
TOPIC, PARTITION, OFFSET, TIME = "foreshock-topic", "foreshock-partition", "foreshock-offset", "foreshock-timestamp"
CUT = "foreshock-cut"
"""On a letter whose value was too large to be sent on: how many bytes it had."""
OWN = frozenset({REASON, ERROR, TOPIC, PARTITION, OFFSET, TIME, CUT})
LARGEST = 900_000
"""Bytes of a value that are sent on: brokers take 1 MiB a message unless they are told otherwise."""
_LONGEST = 2000


def dead_letter(message: Any, reason: str, error: str) -> Out:
    """The letter for a message: the same key, value and headers, and where it stood and why it is here.

    `reason` is the short slug that is also counted; `error` says it in words.
    """
    topic, partition, offset = message.topic(), message.partition(), message.offset()
    DEAD_LETTERS.labels(topic, reason).inc()
    value = message.value()
    headers: list[tuple[str, bytes]] = [(k, v or b"") for k, v in message.headers() or [] if k not in OWN]
    headers += [
        (REASON, reason.encode()),
        (ERROR, error[:_LONGEST].encode()),
        (TOPIC, topic.encode()),
        (PARTITION, str(partition).encode()),
        (OFFSET, str(offset).encode()),
        (TIME, str(message.timestamp()[1]).encode()),
    ]
    if value is not None and len(value) > LARGEST:
        headers.append((CUT, str(len(value)).encode()))
        value = value[:LARGEST]
    return Out(topic + SUFFIX, value, message.key(), tuple(headers))


def header(headers: Sequence[tuple[str, bytes]] | None, name: str) -> str:
    """The last header of a name as text; empty where there is none."""
    return next((value.decode(errors="replace") for key, value in reversed(headers or ()) if key == name and value), "")
