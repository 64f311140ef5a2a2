"""The topics, and what stands in their messages: what decodes them and what the docs are made of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec

from foreshock.adapters.kafka.options import EVENTS, METRICS, SERVICES
from foreshock.adapters.mapping import MappingOptions
from foreshock.adapters.metrics import Reading
from foreshock.types.record import JSON


class AnomalyEvent(msgspec.Struct, frozen=True, kw_only=True):
    """An event of a user; further numbers are further features of the user.

    A field that is missing, or `userId` or `timestamp` that cannot be read, makes the message a dead letter.
    """

    eventId: str
    timestamp: int | float | str
    userId: str | int
    value: float


class ServiceMetrics(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How a service did in the last five seconds; `timestamp` in Unix ms at their end.

    `latency` mean time of the calls that it answered (s; null = none), `cpu` use of its cores in [0, 1], `memory` in
    bytes. `label` 1 says that this was made abnormal on purpose: it is no feature.
    """

    timestamp: int
    service: str
    latency: float | None
    cpu: float
    memory: float
    label: int = 0


@dataclass(frozen=True, slots=True)
class TopicSchema:
    """A topic: `what` stands in it, `key` of its messages, their `content_type` where no header says it ("" = told by
    their first bytes).

    `mapping` None: as the settings say under `mapping:`. `type` is a message as a type, for those in JSON that we write
    or ask for; `example` is one.
    """

    name: str
    what: str
    key: str
    content_type: str = ""
    mapping: MappingOptions | None = None
    type: type[Any] | None = None
    example: bytes = b""

    @property
    def strict(self) -> bool:
        """Whether messages must have the fields that the mapping names; else a time may come from the envelope."""
        return self.mapping is not None

    @property
    def needed(self) -> frozenset[str]:
        """The fields that each message of a strict topic must have."""
        fields = msgspec.structs.fields(self.type) if self.strict and self.type is not None else ()
        return frozenset(one.encode_name for one in fields if one.required)


TOPICS = {
    one.name: one
    for one in (
        TopicSchema(
            METRICS,
            "Metrics of hosts, services and whatever else is watched: `foreshock agent host` and `foreshock agent "
            "prometheus` write here in Foreshock's own form, one message an entity and batch. Any other encoding is "
            "read as well.",
            "the entity: its name (`a1`), or its labels in canonical text where it has several",
            type=Reading,
            example=b'[{"time":1640000000000000000,"entity":{"host.name":"a1"},"metrics":'
            b'[["system.cpu.utilization",{},"1",0.31],["system.disk.io",{"direction":"read"},"By/s",4096.0]]}]',
        ),
        TopicSchema(
            SERVICES,
            "Latency, CPU and memory of services, an event each five seconds and service; `foreshock shop kafka` "
            "writes them, with about one in a hundred made abnormal and labelled.",
            "`service`",
            type=ServiceMetrics,
            example=b'{"timestamp":1640000000000,"service":"cart","latency":0.012,"cpu":0.31,"memory":120000000}',
        ),
        TopicSchema(
            EVENTS,
            "Events of users. The entity is `userId`, `eventId` makes repeated events count once, and every number "
            "besides is a feature of the user. `foreshock load` writes them.",
            "`userId`; messages with another key, or none, are passed on under it",
            content_type=JSON,
            mapping=MappingOptions(time="timestamp", entity=("userId",), id="eventId", values=("value", "*")),
            type=AnomalyEvent,
            example=b'{"eventId":"e-1","timestamp":1640000000,"userId":"u-7","value":12.5}',
        ),
    )
}
"""The topics that telemetry comes in by, under their usual names."""


def schema_of(topic: str) -> TopicSchema:
    """What is known of a topic; of one that is not known, that its messages are told by their bytes."""
    return TOPICS.get(topic) or TopicSchema(topic, "", "")
