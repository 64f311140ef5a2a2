"""Messages: how those of foreign topics become records, and what stands in those of our own."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import msgspec
import numpy as np

from foreshock.adapters.kafka.stretch import Stretch
from foreshock.types import Record
from foreshock.types.record import CALLS, JSON

SECOND = 1_000_000_000
Headers = tuple[tuple[str, bytes], ...]
_TYPES = ("content-type", "content_type", "datacontenttype", "ce_datacontenttype")
FORWARD = "foreshock-forward"
"""Header of a message in the keyed topic: a `Forward`, in MessagePack."""
MOST_JOINED = 16384
NEVER = -(1 << 63)
"""The event time of what has none that can be believed: it moves no clock and waits for nobody."""


@dataclass(frozen=True, slots=True)
class Out:
    """A message to be sent; `partition` -1 = by its key."""

    topic: str
    value: bytes | None
    key: bytes | None = None
    headers: Headers = ()
    partition: int = -1


class Forward(msgspec.Struct, array_like=True):
    """Where a message of the keyed topic comes from; a mark, which has no value, says how far its origin has come.

    `origin` `topic/partition`, one of `of`; `time` the newest event time (None = not known, or nothing yet), of what
    was `written` up to then (Unix ns); `until`: all that the origin had when that was the time has been read. `times`
    of a message that holds several, a line each: their event times, `NEVER` where one has none.
    """

    origin: str
    of: int
    source: str
    time: int | None = None
    written: int = 0
    received: int = 0
    content_type: str = JSON
    until: int = 0
    times: list[int] = []


encode = msgspec.msgpack.Encoder().encode
_forward = msgspec.msgpack.Decoder(Forward)


def forward_of(message: Any) -> Forward | None:
    """What the header of a message of the keyed topic says; None where it has none that can be read."""
    for name, value in message.headers() or ():
        if name == FORWARD:
            try:
                return _forward.decode(value)
            except msgspec.MsgspecError:
                return None
    return None


def content_type_of(message: Any, otherwise: str) -> str:
    """What a message says it holds, without parameters (`; charset=…`)."""
    for name, value in message.headers() or ():
        if value and name.lower() in _TYPES:
            text: str = value.decode(errors="replace").partition(";")[0].strip().lower()
            return text or otherwise
    return otherwise


def received_of(message: Any) -> int:
    """When a message was written (Unix ns), in whole seconds: messages of one second can be judged together."""
    return int(message.timestamp()[1]) // 1000 * SECOND


def record_of(message: Any, environment: str, source: str, content_type: str) -> Record:
    """The record that a message is."""
    return Record(environment, source, content_type, received_of(message), message.value() or b"")


def in_seconds(messages: Stretch, content_type: str) -> Iterator[Stretch]:
    """Messages in order, in groups written in the same second; calls, no samples, stand alone."""
    n = len(messages)
    seconds = messages.stamp // 1000
    if not messages.odd and content_type != CALLS and 0 < n <= MOST_JOINED and (seconds == seconds[0]).all():
        yield messages
        return
    calls = np.full(n, content_type == CALLS)
    for at, message in messages.odd.items():
        calls[at] = content_type_of(message, content_type) == CALLS
    new = np.flatnonzero((seconds[1:] != seconds[:-1]) | calls[1:] | calls[:-1]) + 1
    for first, last in pairwise([0, *new.tolist(), n]):
        for at in range(first, last, MOST_JOINED):
            to = min(at + MOST_JOINED, last)
            yield messages if to - at == n else messages[at:to]
