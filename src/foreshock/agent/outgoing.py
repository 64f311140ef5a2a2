"""Messages on their way to Kafka, and how readings and samples become such."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby

import msgspec
import numpy as np

from foreshock.adapters.kafka.envelope import written
from foreshock.adapters.kafka.keys import entity_key
from foreshock.adapters.metrics import METRICS, Metric, Reading, encode_metrics
from foreshock.types import Kind, Labels, Samples, digest, label_text, labels, rfc3339

KIND = "dev.foreshock.metrics"
"""The CloudEvents type of readings."""

OUTGOING = "application/vnd.foreshock.outgoing+msgpack"
"""Content type of a record of the buffer: an array of `Outgoing`."""


class Outgoing(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A message: where it goes, its key, value and headers, and its time (Unix ns)."""

    topic: str
    key: bytes | None
    value: bytes
    headers: list[tuple[str, bytes | None]]
    time_unix_nano: int


_ENCODE = msgspec.msgpack.Encoder().encode
_DECODE = msgspec.msgpack.Decoder(list[Outgoing]).decode


def encode(messages: Sequence[Outgoing]) -> bytes:
    """The payload of a record of the buffer."""
    return _ENCODE(messages)


def decode(payload: bytes) -> list[Outgoing]:
    """The messages of `encode`; raises msgspec.MsgspecError."""
    return _DECODE(payload)


def of_readings(topic: str, source: str, readings: Iterable[Reading]) -> list[Outgoing]:
    """Readings as messages, one an entity, keyed by it; as CloudEvents of this source, with ids of their own."""
    by_entity: dict[Labels, list[Reading]] = {}
    for one in readings:
        by_entity.setdefault(labels(one.entity), []).append(one)
    return [_message(topic, source, entity, several) for entity, several in by_entity.items()]


def _message(topic: str, source: str, entity: Labels, readings: list[Reading]) -> Outgoing:
    last = readings[-1].time
    headers = written(
        METRICS,
        event_id=digest(source, label_text(entity), str(readings[0].time), str(last)),
        source=source,
        kind=KIND,
        time=rfc3339(last),
    )
    return Outgoing(topic, entity_key(entity), encode_metrics(readings), headers, last)


def readings_of(samples: Samples) -> list[Reading]:
    """Samples as readings, in order of time, one an entity and time."""
    entity = [one.entity for one in samples.series]
    order = np.argsort(samples.time_unix_nano, kind="stable")
    index, times = samples.index[order].tolist(), samples.time_unix_nano[order].tolist()
    values = samples.value[order].tolist()
    rows = sorted(range(len(index)), key=lambda at: (times[at], entity[index[at]]))
    out = []
    for (time, owner), group in groupby(rows, key=lambda at: (times[at], entity[index[at]])):
        metrics = []
        for at in group:
            series = samples.series[index[at]]
            value = None if values[at] != values[at] else values[at]
            metrics.append(
                Metric(series.name, dict(series.attributes), series.unit, value, series.kind is Kind.COUNTER)
            )
        out.append(Reading(time, dict(owner), metrics))
    return out
