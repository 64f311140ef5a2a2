"""Messages of a topic → Samples. Pure: bytes, headers and options decide all, whatever the messages come together with.

The common message, one JSON event, is decoded with all others of its kind at once: a message each would cost ten times
as much.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any
from weakref import WeakKeyDictionary

import msgspec
import numpy as np
from numpy.typing import NDArray

from foreshock.adapters.assemble import Drops, join
from foreshock.adapters.decode import decode_samples
from foreshock.adapters.decode_json import BROKEN, WRAPPERS, decode_alike, decode_rows, event_ids, first_of, trouble_of
from foreshock.adapters.http import CONTENT_TYPES, record_type
from foreshock.adapters.json_columns import FEWEST, apart
from foreshock.adapters.kafka.envelope import NOTHING_SAID, Envelope, Headers, envelope
from foreshock.adapters.kafka.keys import Keys
from foreshock.adapters.kafka.messages import NEVER
from foreshock.adapters.kafka.schemas import TopicSchema
from foreshock.adapters.kafka.sniff import sniff
from foreshock.adapters.kafka.stretch import Stretch
from foreshock.adapters.mapping import MappingOptions
from foreshock.adapters.metrics import METRICS
from foreshock.errors import BadInputError
from foreshock.types import Dictionary, Labels, Record, Samples, Series
from foreshock.types.record import ARROW, JSON, OTLP, OTLP_JSON

MAX_MESSAGE_BYTES = 16 << 20
"""Largest message; brokers take one MiB where nobody said otherwise."""

CLOUDEVENT = "application/cloudevents+json"
_TYPES = CONTENT_TYPES | {
    "application/x-protobuf": OTLP,
    "application/protobuf": OTLP,
    CLOUDEVENT: CLOUDEVENT,
} | {one: one for one in (OTLP, OTLP_JSON, ARROW)}  # fmt: skip
_UNSAID = ("", "application/octet-stream", "text/plain")
_READING = {"time", "entity", "metrics"}
_MOST_NOTES = 12
_ANY = msgspec.json.Decoder()
_TIME = "time_unix_nano"
_NOWHERE = np.zeros(0, np.int64)
_KEYS: WeakKeyDictionary[Dictionary, Keys] = WeakKeyDictionary()
_MEANING = {
    "bad_time": "its time is negative, beyond 2262, or none at all",
    "no_values": "it has no number that could be a feature",
    "no_entity": "the field that names the entity is empty",
    "no_name": "the field that names the feature is empty",
    "name_too_long": "a name in it has more than 1,024 characters",
}


@dataclass(frozen=True, slots=True)
class Refused:
    """A message of which nothing can be used: its place in the batch, the reason as a slug, and in words."""

    message: int
    reason: str
    detail: str


@dataclass(frozen=True, slots=True)
class Each:
    """What is known of k messages that hold samples, each int64[k]: its `place` in the batch, the `key` of its entity
    (a number in `keys`, -1 = of several), and its `newest` event time that may move a clock (`NEVER` = none).
    """

    place: NDArray[np.int64]
    key: NDArray[np.int64]
    newest: NDArray[np.int64]
    keys: Keys


@dataclass(frozen=True, slots=True)
class Decoding:
    """What a batch of messages holds: samples in the order of the messages, and for each sample the place of its
    message in the batch, `message int64[n]`.

    What was left out of messages that hold something else is counted in `samples.dropped`. A message with no sample
    that is not `refused` is empty (null, or an empty request).
    """

    samples: Samples
    message: NDArray[np.int64]
    refused: tuple[Refused, ...] = ()

    def each(self, latest: int | None) -> Each:
        """What is known of each message; no event time beyond `latest` (Unix ns) may move a clock."""
        if not len(self.message):
            return Each(_NOWHERE, _NOWHERE, _NOWHERE, Keys())
        keys = _keys_of(self.samples.series)
        key, time = keys.numbers(self.samples.series)[self.samples.index], self.samples.time_unix_nano
        newest = time if latest is None or time.max() <= latest else np.where(time <= latest, time, NEVER)
        new = self.message[1:] != self.message[:-1]
        if new.all():
            return Each(self.message, key, newest, keys)
        start = np.append(0, np.flatnonzero(new) + 1)
        low, high = np.minimum.reduceat(key, start), np.maximum.reduceat(key, start)
        place, newest = self.message[start], np.maximum.reduceat(newest, start)
        return Each(place, np.where(low == high, low, -1), newest, keys)

    def of(self, first: int, last: int) -> Samples:
        """The samples of the messages `[first, last)`; none was left out of them that is counted here."""
        low, high = np.searchsorted(self.message, (first, last)).tolist()
        used, index = np.unique(self.samples.index[low:high], return_inverse=True)
        return Samples(
            tuple(self.samples.series[at] for at in used.tolist()), index.astype(np.int32),
            self.samples.time_unix_nano[low:high], self.samples.value[low:high], self.samples.event_id[low:high], {},
        )  # fmt: skip


def _keys_of(series: Sequence[Series]) -> Keys:
    """A place for the keys of series; of a dictionary that others share, that which has been filled before."""
    if not isinstance(series, Dictionary):
        return Keys()
    keys = _KEYS.get(series)
    if keys is None:
        keys = _KEYS[series] = Keys()
    return keys


class CloudEvent(msgspec.Struct):
    """A CloudEvent in structured mode; other attributes are not looked at."""

    id: str = ""
    source: str = ""
    time: str = ""
    datacontenttype: str = JSON
    data: msgspec.Raw = msgspec.Raw(b"")
    data_base64: bytes = b""


_CLOUDEVENT = msgspec.json.Decoder(CloudEvent)


def decode_messages(
    values: Sequence[bytes | None],
    headers: Sequence[Headers | None],
    topic: TopicSchema,
    mapping: MappingOptions,
    most_bytes: int = MAX_MESSAGE_BYTES,
) -> Decoding:
    """The samples of messages of one topic; none may be larger than `most_bytes`.

    Rows that name no entity belong to the CloudEvent's source, else to `entity=<topic>`. An event without a time has
    that of its CloudEvent, unless the topic's schema names the field of the time.
    """
    body = None if any(headers) or None in values else b"\n".join(values)  # type: ignore[arg-type]
    return _decoded(body, len(values), lambda: zip(values, headers, strict=True), topic, mapping, most_bytes)


def decode_stretch(
    messages: Stretch, topic: TopicSchema, mapping: MappingOptions, most_bytes: int = MAX_MESSAGE_BYTES
) -> Decoding:
    """`decode_messages` of a stretch."""

    def one_by_one() -> Iterable[tuple[bytes | None, Headers | None]]:
        return zip(messages.bodies(), messages.headers(), strict=True)

    return _decoded(messages.body(), len(messages), one_by_one, topic, mapping, most_bytes)


def _decoded(
    body: bytes | None, count: int, one_by_one: Callable[[], Iterable[tuple[bytes | None, Headers | None]]],
    topic: TopicSchema, mapping: MappingOptions, most_bytes: int,
) -> Decoding:  # fmt: skip
    """The samples of messages; `body` is what they hold, a line each, where there is no more to say of them."""
    batch = _Batch(topic, topic.mapping or mapping, most_bytes, count)
    if body is not None and (topic.content_type not in ("", JSON) or len(body) > most_bytes):
        body = None
    if body is not None and count >= FEWEST and batch.take_alike(body):
        return batch.decoding()
    rows = None if body is None or not apart(body, count) else _events(body, count, topic)
    if rows is not None:
        batch.rows, batch.places = rows, list(range(len(rows)))
    else:
        for at, (value, said) in enumerate(one_by_one()):
            batch.take(at, value, envelope(said))
    return batch.decoding()


def _events(body: bytes, count: int, topic: TopicSchema) -> list[Any] | None:
    """The events in `body`, if its `count` objects, which stand apart, are one event each; else None."""
    try:
        rows = _ANY.decode_lines(body)
    except BROKEN:
        return None
    if len(rows) != count or set(map(type, rows)) != {dict}:
        return None
    if any(_special(shape, topic) for shape in set(map(tuple, rows))):
        return None
    return rows


def _special(fields: Iterable[str], topic: TopicSchema) -> bool:
    """Whether an object with these fields is not one event: it may wrap several, or be a reading in our own form."""
    if topic.strict:
        return False
    names = set(fields)
    return not names.isdisjoint(WRAPPERS) or names >= _READING


class _Batch:
    """Messages on their way to samples: single events are put aside, everything else is decoded as it comes."""

    def __init__(self, topic: TopicSchema, mapping: MappingOptions, most_bytes: int, count: int) -> None:
        self.rows: list[Any] = []
        self.places: list[int] = []
        """Single events, and the place of the message of each."""
        self._topic, self._mapping, self._most_bytes, self._count = topic, mapping, most_bytes, count
        self._said: dict[int, Envelope] = {}
        self._parts: list[tuple[NDArray[np.int64], Samples]] = []
        self._notes: dict[str, None] = {}
        self._drops = Drops("message")
        self._refused: dict[int, Refused] = {}

    def take_alike(self, body: bytes) -> bool:
        """Take all messages, the lines of `body`, if all are events like the first; whether they are."""
        first = first_of(body)
        if first is None or _special(first, self._topic) or not self._topic.needed <= first.keys():
            return False
        drops = _ByRow(self._drops)
        found = decode_alike(body, first, np.arange(self._count), self._mapping, self._nobody_said(), drops, True, True)
        if found is None:
            return False
        self._parts, self._notes = found[0], dict.fromkeys(found[1])
        self._refuse(drops.reasons, "")
        return True

    def take(self, at: int, value: bytes | None, said: Envelope) -> None:
        """Take a message."""
        if value is None:
            return
        try:
            if len(value) > self._most_bytes:
                raise BadInputError("too_large", f"a message of {len(value)} bytes; it may have {self._most_bytes}")
            kind = self._kind(value, said)
            if kind == CLOUDEVENT:
                value, said, kind = self._opened(value, said)
            if said is not NOTHING_SAID:
                self._said[at] = said
            if kind != JSON or not self._is_event(at, value):
                self._whole(at, value, self._refined(kind, value))
        except BadInputError as error:
            self._refused[at] = Refused(at, error.reason, str(error))

    def decoding(self) -> Decoding:
        """The samples of all messages."""
        for entity, (rows, places) in self._by_entity().items():
            self._decode(rows, places, entity)
        samples = join(self._parts, self._drops, tuple(self._notes)[:_MOST_NOTES])
        message = self._parts[0][0] if self._parts else _NOWHERE
        if len(self._parts) > 1:  # within a part they rise
            message = np.sort(np.concatenate([at for at, _ in self._parts]), kind="stable")
        return Decoding(samples, message, tuple(self._refused[at] for at in sorted(self._refused)))

    # -- what a message is -------------------------------------------------------------------------------------------

    def _kind(self, value: bytes, said: Envelope) -> str:
        """The content type: by the header, else by the topic, else by the bytes."""
        return _said_type(said.content_type) or _said_type(self._topic.content_type) or sniff(value)

    def _opened(self, value: bytes, said: Envelope) -> tuple[bytes, Envelope, str]:
        """The data of a CloudEvent in structured mode, and what it says of itself."""
        try:
            event = _CLOUDEVENT.decode(value)
        except BROKEN as error:
            raise BadInputError("bad_cloudevent", f"not a CloudEvent: {error}") from error
        text = {"ce_id": event.id, "ce_source": event.source, "ce_time": event.time}
        inner = replace(envelope([(name, one.encode()) for name, one in text.items()]), trace_parent=said.trace_parent)
        kind = _said_type(event.datacontenttype) or JSON
        if kind == CLOUDEVENT:
            raise BadInputError("bad_cloudevent", "a CloudEvent inside a CloudEvent")
        return event.data_base64 or bytes(event.data), inner, kind

    def _is_event(self, at: int, value: bytes) -> bool:
        """Whether a JSON message is one event; then it is put aside."""
        if value[:1] == b"[":
            return False
        try:
            row = _ANY.decode(value)
        except BROKEN as error:
            if b"\n" in value:  # several lines, which are looked at one by one
                return False
            raise trouble_of(value, error) from error
        if type(row) is not dict:
            raise BadInputError("not_an_object", "the message is no JSON object")
        if _special(row, self._topic):
            return False
        self.rows.append(row)
        self.places.append(at)
        return True

    def _refined(self, kind: str, value: bytes) -> str:
        """JSON that has the fields of our own readings is one, though no header says so."""
        if kind != JSON or self._topic.strict:
            return kind
        head = value[:256]
        return METRICS if b'"entity"' in head and b'"metrics"' in head and b'"time"' in head else kind

    # -- what it holds -----------------------------------------------------------------------------------------------

    def _nobody_said(self) -> Labels:
        """The entity of events that name none, nor does an envelope."""
        return (("entity", self._topic.name),)

    def _nobody(self, at: int) -> str:
        return self._said.get(at, NOTHING_SAID).source or self._topic.name

    def _whole(self, at: int, value: bytes, kind: str) -> None:
        """Decode a message by itself."""
        samples = decode_samples(Record("", self._nobody(at), kind, 0, value), self._mapping)
        for reason, count in samples.dropped.items():
            self._drops.add(reason, count, at + 1)
        if len(samples):
            self._parts.append((np.full(len(samples), at, np.int64), samples))

    def _by_entity(self) -> dict[Labels, tuple[list[Any], list[int]]]:
        """Events and their places by the entity of those that name none."""
        if not self.rows:
            return {}
        if not self._said:
            return {self._nobody_said(): (self.rows, self.places)}
        out: dict[Labels, tuple[list[Any], list[int]]] = {}
        for row, at in zip(self.rows, self.places, strict=True):
            rows, places = out.setdefault((("entity", self._nobody(at)),), ([], []))
            rows.append(row)
            places.append(at)
        return out

    def _decode(self, rows: list[Any], places: list[int], nobody: Labels) -> None:
        """Decode events at once; those that have no time, once more with that of their envelope."""
        if self._topic.needed:
            rows, places = self._complete(rows, places)
        reasons, trouble = self._decoded(rows, places, nobody)
        if not self._topic.strict and "no_time" in reasons.values():
            untimed = [(row, at) for row, at in zip(rows, places, strict=True) if reasons.get(at) == "no_time"]
            timed = [({**row, _TIME: when}, at) for row, at in untimed if (when := self._said_time(at))]
            reasons = {at: reason for at, reason in reasons.items() if at not in {at for _, at in timed}}
            reasons |= self._decoded([row for row, _ in timed], [at for _, at in timed], nobody)[0]
        self._refuse(reasons, trouble)

    def _refuse(self, reasons: dict[int, str], trouble: str) -> None:
        """Refuse messages, by their places."""
        for at, reason in reasons.items():
            self._drops.add(reason, 1, at + 1)
            detail = trouble if reason in ("no_time", "no_column") else _MEANING.get(reason, reason)
            self._refused[at] = Refused(at, reason, detail)

    def _complete(self, rows: list[Any], places: list[int]) -> tuple[list[Any], list[int]]:
        """The events that have all the fields that the topic asks for."""
        needed = self._topic.needed
        lacking = {shape for shape in set(map(tuple, rows)) if not needed.issubset(shape)}
        if not lacking:
            return rows, places
        whole: tuple[list[Any], list[int]] = [], []
        for row, at in zip(rows, places, strict=True):
            if tuple(row) in lacking:
                missing = ", ".join(sorted(needed.difference(row)))
                self._drops.add("no_column", 1, at + 1)
                self._refused[at] = Refused(at, "no_column", f"{self._topic.name} asks for {missing}")
            else:
                whole[0].append(row)
                whole[1].append(at)
        return whole

    def _decoded(self, rows: list[Any], places: list[int], nobody: Labels) -> tuple[dict[int, str], str]:
        """Take the samples of events; why others were refused, by their places, and the first trouble in words."""
        drops = _ByRow(self._drops)
        numbers = np.array(places, np.int64)
        parts, notes, trouble = decode_rows(rows, numbers, self._mapping, nobody, drops, True)
        self._notes |= dict.fromkeys(notes)
        self._parts += [(at, self._with_ids(at, samples)) for at, samples in parts]
        return drops.reasons, trouble

    def _said_time(self, at: int) -> int:
        return self._said.get(at, NOTHING_SAID).time_unix_nano

    def _with_ids(self, rows: NDArray[np.int64], samples: Samples) -> Samples:
        """The samples with the ids of their envelopes where the events have none of their own."""
        named = {at: one.event_id for at, one in self._said.items() if one.event_id}
        if not named or samples.event_id.all():
            return samples
        ids = np.zeros(self._count, np.uint64)
        ids[list(named)] = event_ids(list(named.values()))
        columns = (samples.series, samples.index, samples.time_unix_nano, samples.value)
        event_id = np.where(samples.event_id == 0, ids[rows], samples.event_id)
        return Samples(*columns, event_id, samples.dropped, samples.notes)


@lru_cache(maxsize=256)
def _said_type(content_type: str) -> str:
    """The content type that a text stands for; "" where it says nothing."""
    media = content_type.partition(";")[0].strip().lower()
    return "" if media in _UNSAID else record_type(content_type, _TYPES)


class _ByRow(Drops):
    """Remembers of each row why it was refused; what belongs to no single row goes on to the drops behind it."""

    def __init__(self, behind: Drops) -> None:
        super().__init__("message")
        self.reasons: dict[int, str] = {}
        self._behind = behind

    def add(self, reason: str, count: int, first: int) -> None:
        """Count values."""
        self._behind.add(reason, count, first + 1)

    def add_rows(self, reason: str, rows: NDArray[np.int64]) -> None:
        """Remember rows."""
        for row in rows.tolist():
            self.reasons.setdefault(row, reason)
